from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select

engine = create_engine("sqlite://")
metadata = MetaData()
users = Table("users", metadata, Column("id", Integer, primary_key=True), Column("name", String))
metadata.create_all(engine)
with engine.begin() as connection:
    connection.execute(users.insert(), [{"name": "ada"}, {"name": "grace"}])
    print(connection.execute(select(users.c.name).order_by(users.c.name)).all())

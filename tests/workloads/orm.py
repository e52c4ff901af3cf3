"""SQLAlchemy's object relational mapper on an SQLite database in memory."""

from sqlalchemy import ForeignKey, String, create_engine, event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30), unique=True)
    books: Mapped[list["Book"]] = relationship(
        back_populates="author", cascade="all, delete-orphan"
    )


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


statements = []
engine = create_engine("sqlite://")
event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(
        [
            Author(name="ada", books=[Book(title="notes"), Book(title="sketch")]),
            Author(name="grace"),
        ]
    )
    session.commit()
    for author in session.scalars(
        select(Author).options(selectinload(Author.books)).order_by(Author.name)
    ):
        print(author.name, [book.title for book in author.books])
    count = select(Author.name, func.count(Book.id)).outerjoin(Book).group_by(Author.name)
    print(session.execute(count.order_by(Author.name)).all())
    session.delete(session.scalars(select(Author).where(Author.name == "ada")).one())
    session.commit()
    print(session.scalar(select(func.count()).select_from(Book)))
    session.add(Author(name="grace"))
    try:
        session.commit()
    except IntegrityError as error:
        print(error.orig)
print(*statements, sep="\n")

"""Tables that are described before the freeze."""

from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    """The base class of all tables."""


class Author(Base):
    """A person."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    """A thing that belongs to a person."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def run() -> None:
    """Fill the tables and query them."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Author(name="ada", books=[Book(title="notes"), Book(title="letters")]))
        session.commit()
        found = session.scalars(
            select(Book).join(Author).where(Author.name == "ada").order_by(Book.title)
        )
        print([(book.title, book.author.name) for book in found])
    engine.dispose()

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

console = Console(width=60, no_color=True)
table = Table(title="Table")
table.add_column("a")
table.add_row("1")
console.print(table, Markdown("# Title\n* item"))

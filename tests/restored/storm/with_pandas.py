"""A table that is made before the freeze."""

import pandas

FRAME = pandas.DataFrame({"group": [number % 7 for number in range(5000)], "value": range(5000)})


def run() -> None:
    """Read the table, and make it longer."""
    print(FRAME.groupby("group")["value"].sum().to_dict())
    longer = pandas.concat([FRAME, FRAME], ignore_index=True)
    longer["text"] = longer["group"].map(str)
    print(len(longer), int(longer["value"].sum()), sorted(longer["text"].unique()))
    print(pandas.to_datetime("2024-02-29").day_name(), FRAME.describe().loc["mean"].to_dict())

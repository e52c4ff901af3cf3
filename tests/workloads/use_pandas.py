import pandas

frame = pandas.DataFrame({"group": ["a", "b", "a"], "value": [1, 2, 3]})
print(frame.groupby("group").sum().to_string())

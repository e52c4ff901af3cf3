"""Write a wheel that is the same each time."""

import zipfile

METADATA = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nSummary: A thing\n\n# Thing\n"
FILES = {
    "thing.py": "VALUE = 1\n",
    "thing-1.0.dist-info/METADATA": METADATA,
    "thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "thing-1.0.dist-info/RECORD": "",
}

with zipfile.ZipFile("thing-1.0-py3-none-any.whl", "w") as wheel:
    for name, text in FILES.items():
        wheel.writestr(zipfile.ZipInfo(name), text)

import asyncio
import os
import sys

import pytest


@pytest.fixture
def number():
    return 3


@pytest.mark.parametrize("value", [1, 2, 3])
def test_values(value, number):
    assert value < number


def test_mock(mocker):
    mocker.patch("os.getcwd", return_value="/nowhere")
    assert os.getcwd() == "/nowhere"


@pytest.mark.asyncio
async def test_async():
    await asyncio.sleep(0)


def test_temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("GEN", "1")
    (tmp_path / "file").write_text("x")
    assert os.environ["GEN"] == "1"


def test_output(capsys):
    print("text")
    assert capsys.readouterr().out == "text\n"


@pytest.mark.skipif(sys.platform == "linux", reason="not here")
def test_skipped():
    pass

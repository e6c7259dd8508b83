"""What is said of a document that a model describes."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nilometer.domain.members import listed, members, sentence


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Inner(Strict):
    first: int = 0
    second: int = Field(0, alias="2nd")


class Outer(Strict):
    one: Inner | None = None
    many: Annotated[list[Inner], Field(max_length=9)] = []
    named: dict[str, int] = {}
    key: str = ""

    @field_validator("key")
    @classmethod
    def check(cls, value: str) -> str:
        if value:
            raise ValueError("leave it out")
        return value


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"x": 1}, "there is no such member here; there are one, many and named"),
        ({"one": {"x": 1}}, "there is no such member here; there are first and 2nd"),
        ({"many": [{}, {"x": 1}]}, "there is no such member here; there are first and 2nd"),
        ({"one": {"first": "a"}}, "Input should be a valid integer, unable to parse"),
        ({"key": "k"}, "leave it out"),
    ],
)
def test_of_what_is_not_there_it_says_what_is(document, told):
    with pytest.raises(ValidationError) as wrong:
        Outer.model_validate(document)
    assert sentence(wrong.value.errors()[0], Outer, but=["key"]).startswith(told)


def test_what_is_no_model_has_no_members():
    assert members(str) == members(Outer, ["named", "x"]) == members(Outer, ["nothing"]) == []
    assert [listed([]), listed(["a"])] == ["are none", "is a"]

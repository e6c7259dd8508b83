"""What is read of an expression's words is what the engine reads."""

import pytest
from cel_expr_python import cel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nilometer.incidents import lexing
from nilometer.incidents.expressions import InvalidExpression, expression

_ENGINE = cel.NewEnv(variables={})


def _value(text):
    """Its value by the engine alone; None where it is no expression."""
    try:
        found = _ENGINE.compile(text).eval(_ENGINE.Activation({}))
        return found.plain_value()
    except RuntimeError:
        return None


HIDDEN = "exception.payload.l.all(x, exception.payload.l.all(y, x == y))"


@pytest.mark.parametrize("name", ["//", "'", '"', "a b", "(", "a"])
def test_a_name_in_backticks_hides_nothing_because_it_is_refused(name):
    with pytest.raises(InvalidExpression, match=r"exception\.payload\['a b'\]"):
        expression(f"exception.payload.`{name}` == 1 || {HIDDEN}")


@pytest.mark.parametrize("text", ["1 == 1 # a", "1 == 1 @", "'a", '"a\nb"', "1\x00", "\x0b1", "é"])
def test_what_is_no_word_of_the_language_is_refused_before_the_engine_sees_it(text):
    assert lexing.read(text).problem is not None


@pytest.mark.parametrize(
    "number", ["1", "1u", "0x1f", "0x1fu", "1.5", "1e3", "1.5e-3", ".5", "1e+3", "2U", "1E3"]
)
def test_a_number_ends_where_the_engine_ends_it(number):
    assert _value(f"{number}in [{number}]") is True
    glued = lexing.read(f"{number}in exception.payload.l").effort
    assert glued == lexing.read(f"{number} in exception.payload.l").effort
    assert glued.compared == 1
    assert glued.added == 0


_PIECES = st.sampled_from(
    [
        "'",
        '"',
        "'''",
        '"""',
        "r'",
        'R"',
        "b'",
        "\\",
        "\\'",
        '\\"',
        "\\\\",
        "//",
        "\n",
        "\r",
        ",",
        "a",
    ]
)


@settings(max_examples=400)
@given(st.lists(_PIECES, max_size=12).map("".join))
@example("r'\\', 'a'")
@example("'a', // ', 'b'\n'c'")
@example("'''a'',''', \"b\"")
@example("''''a''',''")
def test_texts_and_notes_end_where_the_engine_ends_them(inner):
    found = _value(f"[{inner}]")
    if found is not None:
        seen = lexing.words(f"[{inner}]")
        assert [_value(word) for kind, word in seen if kind == "text"] == found

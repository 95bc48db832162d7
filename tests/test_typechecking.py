"""Shapes and types are checked at run time: the packages', and of functions made by one def."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from interp import token_losses
from tests.typechecking import beartype_when_called


def test_a_wrong_shape_given_to_the_packages_is_an_error():
    with pytest.raises(TypeCheckError, match="batch pos vocab"):
        token_losses(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long))


def function_of(given: type, result: type):
    @jaxtyped(typechecker=beartype_when_called)
    def inner(x: given, y: object = None) -> result:
        return x if y is None else y

    return inner


@pytest.mark.parametrize("_", ["the first", "the second"])
def test_functions_of_one_def_are_checked_each_by_its_own_annotations(_):
    rows, square = Float[Tensor, "row column"], Float[Tensor, "row row"]
    oblong = torch.zeros(2, 3)
    assert function_of(rows, rows)(oblong) is oblong
    with pytest.raises(TypeCheckError, match="parameters"):
        function_of(square, rows)(oblong)
    with pytest.raises(TypeCheckError, match="return value"):
        function_of(rows, square)(oblong)
    with pytest.raises(TypeCheckError, match="return value"):
        function_of(rows, rows)(oblong, torch.zeros(2, 4))
    assert function_of(int, str)(1, "one") == "one"

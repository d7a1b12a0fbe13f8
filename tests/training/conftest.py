import pytest

from tests.training.models import RULES


@pytest.fixture(params=RULES)
def rule_class(request):
    return RULES[request.param]

"""The recursions of the volatility bands: pandas' exponentially weighted mean and deviation, SciPy's linear filter."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from maxxit.learning import bands


@pytest.mark.parametrize("seed", range(20))
def test_the_recursions_are_those_of_pandas_and_scipy(seed: int) -> None:
    returns = np.random.default_rng(seed).standard_t(4, 500) / 100
    squares = pd.Series(returns**2)
    assert bands.ewma(returns) ** 2 == pytest.approx(squares.ewm(alpha=0.06, adjust=False).mean().to_numpy())
    theirs = pd.Series(returns).rolling(20).std(ddof=0).to_numpy()
    assert bands.std(returns) == pytest.approx(theirs, nan_ok=True)

    fitted = bands.garch_parameters(returns)
    start = fitted.omega / (1 - fitted.alpha - fitted.beta)
    filtered, _ = lfilter(
        [1], [1, -fitted.beta], fitted.omega + fitted.alpha * returns**2, zi=[fitted.beta * start]
    )
    assert bands.garch(returns, fitted) ** 2 == pytest.approx(filtered)
    assert (
        abs(squares.autocorr(1)) == pytest.approx(fitted.alpha, rel=0.05)
        or fitted.alpha in bands.ALPHA_BOUNDS
    )

"""The rank of a noisy matrix by empirical variational Bayesian matrix factorization, in closed form.

Nakajima, Sugiyama, Babacan and Tomioka, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix
Factorization", JMLR 14 (2013), section 4: where both priors and the noise are estimated from the matrix itself, the
solution keeps the singular values above a threshold, and only the variance of the noise is left to be searched for.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def vbmf_rank(values: Floats, rows: int, columns: int) -> int:
    """Return how many of the singular `values` of a `rows` x `columns` matrix are signal, not noise."""
    from scipy.optimize import minimize_scalar

    low, high = sorted((rows, columns))
    squares = np.sort(np.asarray(values, np.float64))[::-1][:low] ** 2
    if squares.sum() == 0:
        return 0
    alpha = low / high
    tau = 2.5129 * np.sqrt(alpha)  # the zero of their function Phi, as fitted there
    limit = (1 + tau) * (1 + alpha / tau)
    most = squares.sum() / (low * high)
    most_kept = min(int(np.ceil(low / (1 + alpha))) - 1, low - 1)
    rest = squares[most_kept:]
    least = max(rest[0] / (high * limit), rest.mean() / high)
    least = min(max(least, most * 1e-12), most)

    def energy(log_noise: float) -> float:
        return _free_energy(squares / (high * np.exp(log_noise)), alpha, limit)

    found = minimize_scalar(energy, bounds=(np.log(least), np.log(most)), method="bounded", options={"xatol": 1e-6})
    ends = [np.log(least), float(found.x), np.log(most)]  # the search leaves the ends of the interval out
    noise = float(np.exp(min(ends, key=energy)))
    return int((squares > high * noise * limit).sum())


def _free_energy(x: Floats, alpha: float, limit: float) -> float:
    """Return the free energy, up to constants, of eigenvalues `x` in units of the noise."""
    x = np.maximum(x, 1e-300)
    signal = x[x > limit]
    gap = signal - (1 + alpha)
    tau = (gap + np.sqrt(np.maximum(gap**2 - 4 * alpha, 0))) / 2
    gained = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float((x - np.log(x)).sum() + gained.sum())

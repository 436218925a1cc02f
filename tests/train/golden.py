"""The losses once more, written from their papers as loops over single numbers: the values that ours must give."""

import math
from itertools import product

import numpy as np


def softmax(row, t=1.0):
    powers = [math.exp(value / t) for value in row]
    return [value / sum(powers) for value in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def soft_ce(ours, theirs, t):
    each = [
        -sum(p * math.log(q) for p, q in zip(softmax(b, t), softmax(a, t), strict=True))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return t * t * sum(each) / len(each)


def dkd(ours, theirs, targets, t, alpha, beta):
    total = 0.0
    for a, b, y in zip(ours, theirs, targets, strict=True):
        p, q = softmax(b, t), softmax(a, t)
        total += alpha * kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = [k for k in range(len(a)) if k != y]
        total += beta * kl([p[k] / (1 - p[y]) for k in others], [q[k] / (1 - q[y]) for k in others])
    return t * t * total / len(ours)


def pearson(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def dist(ours, theirs, t, beta, gamma):
    p, q = [softmax(row, t) for row in ours], [softmax(row, t) for row in theirs]
    inter = 1 - sum(pearson(a, b) for a, b in zip(p, q, strict=True)) / len(p)
    columns = list(zip(zip(*p, strict=True), zip(*q, strict=True), strict=True))
    intra = 1 - sum(pearson(a, b) for a, b in columns) / len(columns)
    return t * t * (beta * inter + gamma * intra)


def standardized(rows):
    out = []
    for row in rows:
        m = sum(row) / len(row)
        s = math.sqrt(sum((v - m) ** 2 for v in row) / len(row))
        out.append([(v - m) / (s + 1e-7) for v in row])
    return out


def kd(ours, theirs, t):
    each = [kl(softmax(b, t), softmax(a, t)) for a, b in zip(ours, theirs, strict=True)]
    return t * t * sum(each) / len(each)


def mlkd(ours, theirs, temperatures):
    total = 0.0
    for t in temperatures:
        total += kd(ours, theirs, t)
        p, q = [softmax(row, t) for row in ours], [softmax(row, t) for row in theirs]
        n, c = len(p), len(p[0])
        for i, j in product(range(n), repeat=2):
            total += sum(p[i][k] * p[j][k] - q[i][k] * q[j][k] for k in range(c)) ** 2 / n
        for a, b in product(range(c), repeat=2):
            total += (min(1, c / n) * sum(p[i][a] * p[i][b] - q[i][a] * q[i][b] for i in range(n))) ** 2 / c
    return total


def weighted_kd(ours, theirs, targets, t):
    total = 0.0
    for a, b, y in zip(ours, theirs, targets, strict=True):
        ratio = math.log(softmax(a)[y]) / math.log(softmax(b)[y])
        total += (1 - math.exp(-ratio)) * kl(softmax(b, t), softmax(a, t))
    return t * t * total / len(ours)


def virtual_teacher(ours, targets, correct, t):
    total = 0.0
    for row, y in zip(ours, targets, strict=True):
        hard = [correct if k == y else (1 - correct) / (len(row) - 1) for k in range(len(row))]
        soft = [v ** (1 / t) for v in hard]
        total += kl([v / sum(soft) for v in soft], softmax(row, t))
    return t * t * total / len(ours)


def entropy(ours):
    return sum(sum(p * math.log(p) for p in softmax(row)) for row in ours) / len(ours)


def huber(d):
    return 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5


def rkd(ours, theirs, distance, angle):
    n = len(ours)

    def distances(x):
        d = {(i, j): math.dist(x[i], x[j]) for i, j in product(range(n), repeat=2)}
        mean = sum(v for (i, j), v in d.items() if i != j) / (n * (n - 1))
        return {key: value / mean for key, value in d.items()}

    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        size = math.sqrt(a @ a) * math.sqrt(b @ b)
        return float(a @ b) / size if size else 0.0

    ds, dt = distances(ours), distances(theirs)
    total = distance * sum(huber(ds[key] - dt[key]) for key in ds) / n**2
    triples = list(product(range(n), repeat=3))
    return total + angle * sum(huber(cosine(ours, *x) - cosine(theirs, *x)) for x in triples) / n**3


def sp(ours, theirs):
    n = len(ours)

    def gram(x):
        g = [[float(a @ b) for b in x] for a in x]
        return [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in g]

    s, t = gram(ours), gram(theirs)
    return sum((s[i][j] - t[i][j]) ** 2 for i, j in product(range(n), repeat=2)) / n**2


def cc(ours, theirs, gamma, order):
    n = len(ours)

    def kernel(x, i, j):
        dot = float(x[i] @ x[j]) / math.sqrt(float(x[i] @ x[i]) * float(x[j] @ x[j]))
        return sum(math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * dot**p for p in range(order + 1))

    return sum((kernel(ours, i, j) - kernel(theirs, i, j)) ** 2 for i, j in product(range(n), repeat=2)) / n**2


def attention(ours, theirs):
    n, _, h, w = ours.shape
    total = 0.0
    for i in range(n):
        looks = []
        for x in (ours[i], theirs[i]):
            q = [sum(float(x[c, y, z]) ** 2 for c in range(len(x))) / len(x) for y in range(h) for z in range(w)]
            looks.append([v / math.sqrt(sum(u * u for u in q)) for v in q])
        total += sum((a - b) ** 2 for a, b in zip(*looks, strict=True))
    return total / (n * h * w)


def vid(means, variances, targets):
    total = 0.0
    for place in np.ndindex(*means.shape):
        var = float(variances[place[1]])
        total += ((targets[place] - means[place]) ** 2 / var + math.log(var)) / 2
    return total / means.size


def crd_in_batch(ours, theirs, t):
    n, total = len(ours), 0.0
    scores = [[float(a @ b) / t for b in theirs] for a in ours]
    for i in range(n):
        total -= math.log(softmax(scores[i])[i])
        total -= math.log(softmax([scores[j][i] for j in range(n)])[i])
    return total / n


def crd(ours, theirs, kept, own, labels, targets, drawn, t, scales):
    """`kept` are the remembered embeddings of both networks; `scales` what the exponentials are divided by."""
    n, total = len(labels), 0.0
    noise = len(drawn) / n
    for one, bank, scale in ((ours, kept[1], scales[0]), (theirs, kept[0], scales[1])):
        for x, i, y in zip(one, own, targets, strict=True):
            p = math.exp(float(x @ bank[i]) / t) / scale
            total -= math.log(p / (p + noise))
            for j in drawn:
                if j != i and labels[j] != y:
                    p = math.exp(float(x @ bank[j]) / t) / scale
                    total -= math.log(noise / (p + noise))
    return total / len(ours)


def crd_scales(ours, theirs, kept, own, drawn, t):
    found = []
    for one, bank in ((ours, kept[1]), (theirs, kept[0])):
        each = [math.exp(float(x @ bank[j]) / t) for x, i in zip(one, own, strict=True) for j in (i, *drawn)]
        found.append(sum(each) / len(each) * len(bank))
    return found


def pooled(x, side):
    n, c, h, w = x.shape
    out = np.zeros((n, c, side, side))
    for i, j in product(range(side), repeat=2):
        rows = slice(i * h // side, -(-(i + 1) * h // side))
        columns = slice(j * w // side, -(-(j + 1) * w // side))
        out[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return out


def context(ours, theirs):
    sides = [side for side in (4, 2, 1) if side < ours.shape[2]]
    total, weights = float(((ours - theirs) ** 2).mean()), 1.0
    for number, side in enumerate(sides, 1):
        total += 0.5**number * float(((pooled(ours, side) - pooled(theirs, side)) ** 2).mean())
        weights += 0.5**number
    return total / weights


def mgd(ours, theirs):
    return sum(float((ours[p] - theirs[p]) ** 2) for p in np.ndindex(*ours.shape)) / len(ours)


def cwd(ours, theirs, t):
    n, c = ours.shape[:2]
    pairs = [(ours[i, k].ravel(), theirs[i, k].ravel()) for i in range(n) for k in range(c)]
    return t * t * sum(kl(softmax(b, t), softmax(a, t)) for a, b in pairs) / len(pairs)


def margin(ours, theirs):
    total = 0.0
    for channel in range(ours.shape[1]):
        negative = [v for v in theirs[:, channel].ravel() if v < 0]
        m = sum(negative) / len(negative) if negative else 0.0
        for s, t in zip(ours[:, channel].ravel(), theirs[:, channel].ravel(), strict=True):
            t = max(t, m)
            total += 0.0 if s <= t <= 0 else (t - s) ** 2
    return total / ours.size

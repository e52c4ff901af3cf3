"""A model that is fitted after the freeze."""

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

POINTS = numpy.array([[number % 13, number % 7] for number in range(300)], dtype=float)
KINDS = (POINTS.sum(axis=1) > 9).astype(int)


def run() -> None:
    """Fit two models, and let them predict."""
    model = LogisticRegression().fit(POINTS, KINDS)
    print(float(model.score(POINTS, KINDS)).__round__(6), model.predict(POINTS[:10]).tolist())
    tree = DecisionTreeClassifier(random_state=1).fit(POINTS, KINDS)
    print(float(tree.score(POINTS, KINDS)).__round__(6), tree.predict(POINTS[:10]).tolist())

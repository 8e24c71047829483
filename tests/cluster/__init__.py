"""Several Ray nodes on this machine. `make test-cluster` and `make soak` run what is here."""

from tests.cluster.environment import prepare

prepare()

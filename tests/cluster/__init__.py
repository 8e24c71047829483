"""Several Ray nodes on this machine. `make test-cluster` and `make soak` run what is here."""

from tests.support.cluster_environment import prepare

prepare()

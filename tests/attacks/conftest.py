from tests.edge.conftest import bundle as bundle

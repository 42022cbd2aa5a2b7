"""Ways on which verdicts leave a station besides its journal and broker; see docs/extend.md."""

"""What a bundle may hold at most, whoever wrote it; reading them loads no other library."""

# Of a bundle's files, whatever a manifest says.
MOST_MANIFEST_BYTES = 16 * 2**20
MOST_XML_BYTES = 256 * 2**20
MOST_BIN_BYTES = 2 * 2**30

# Sides of images and maps, and the pixels of a model's input or map.
MOST_SIDE_PX = 65_536
MOST_INPUT_PX = 2**24

# Scores are float32; differences and squares of them stay finite.
LARGEST_SCORE = 1e18
# A threshold beyond so many times the scores that were seen decides nothing.
MOST_SPREADS = 1000.0

LONGEST_NAME = 100
LONGEST_TEXT = 2000

# Sides of a locator's reference, reduced as it is searched.
LEAST_REFERENCE_PX = 12
MOST_REFERENCE_PX = 96

# Of a mask and its zones; what a verdict says of the zones has to fit into its 8 KiB.
MOST_POLYGONS = 100
MOST_POINTS = 400
MOST_RUNS = 200_000
MOST_ZONES = 16
LONGEST_ZONE_NAME = 40

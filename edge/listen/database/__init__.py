"""Records of a plant in one database: SQLite, or PostgreSQL that several listeners share."""

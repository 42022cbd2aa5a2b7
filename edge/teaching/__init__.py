"""A model made at the station of a teacher and good images; the numbers that training shares."""

"""The views of the newest revision, in SQL that SQLite and PostgreSQL take alike.

Made anew after each upgrade: a view holds nothing of its own.
"""

_PARTS = """
    CAST(sum(p.parts) AS BIGINT) AS parts,
    CAST(sum(CASE WHEN p.result = 'OK' THEN p.parts ELSE 0 END) AS BIGINT) AS ok,
    CAST(sum(CASE WHEN p.result = 'NOK' THEN p.parts ELSE 0 END) AS BIGINT) AS nok,
    CAST(sum(CASE WHEN p.result IN ('OK', 'NOK') THEN 0 ELSE p.parts END) AS BIGINT) AS undecided,
    CAST(sum(CASE WHEN p.result = 'OK' THEN p.parts ELSE 0 END) AS DOUBLE PRECISION)
        / sum(p.parts) AS yield
"""

# Of parts that are OK: how far their mean score is from that of the seven days before, which counts
# in standard deviations of single parts of these days.
_DRIFT = """
    SELECT d.shift_day, {shift}d.station, d.product, d.product_version, d.simulated, d.parts,
        d.mean_score, d.usual_score, d.usual_spread,
        CASE WHEN d.usual_spread > 0
            THEN (d.mean_score - d.usual_score) / d.usual_spread END AS shift_in_spreads
    FROM (
        SELECT w.*, w.sum_before / w.parts_before AS usual_score,
            CASE WHEN w.squares_before / w.parts_before
                    > (w.sum_before / w.parts_before) * (w.sum_before / w.parts_before)
                THEN power(w.squares_before / w.parts_before
                    - (w.sum_before / w.parts_before) * (w.sum_before / w.parts_before), 0.5)
                END AS usual_spread
        FROM (
            SELECT a.shift_day, {own}a.station, a.product, a.product_version, a.simulated,
                a.parts, a.score_sum / a.parts AS mean_score,
                sum(b.parts) AS parts_before, sum(b.score_sum) AS sum_before,
                sum(b.score_squares) AS squares_before
            FROM {scores} a LEFT JOIN scores_by_day b
                ON b.station = a.station AND b.product = a.product
                AND b.product_version = a.product_version AND b.simulated = a.simulated
                AND b.day_number BETWEEN a.day_number - 7 AND a.day_number - 1
            GROUP BY a.shift_day, {own}a.station, a.product, a.product_version, a.simulated,
                a.parts, a.score_sum
        ) w
    ) d
"""

# In the order in which they can be made.
VIEWS: dict[str, str] = {
    "yield_by_hour": f"""
        SELECT p.hour_utc, s.name AS station, p.product, p.product_version, p.simulated, {_PARTS}
        FROM production p JOIN station s ON s.key = p.station
        GROUP BY p.hour_utc, s.name, p.product, p.product_version, p.simulated
    """,
    "yield_by_shift": f"""
        SELECT p.shift_day, p.shift, s.name AS station, p.product, p.simulated, {_PARTS}
        FROM production p JOIN station s ON s.key = p.station
        GROUP BY p.shift_day, p.shift, s.name, p.product, p.simulated
    """,
    "causes": """
        SELECT p.hour_utc, p.shift_day, p.shift, s.name AS station, p.product, p.simulated,
            p.result, p.reason, CAST(sum(p.parts) AS BIGINT) AS parts
        FROM production p JOIN station s ON s.key = p.station
        WHERE p.result <> 'OK'
        GROUP BY p.hour_utc, p.shift_day, p.shift, s.name, p.product, p.simulated, p.result,
            p.reason
    """,
    "drift": _DRIFT.format(shift="", own="", scores="scores_by_day"),
    "drift_by_shift": _DRIFT.format(shift="d.shift, ", own="a.shift, ", scores="scores_by_shift"),
    "station_now": """
        SELECT s.name AS station, s.state, s.reasons, s.reported_utc,
            (SELECT count(*) FROM journal j WHERE j.station = s.key) AS journals
        FROM station s
    """,
    "station_journals": """
        SELECT s.name AS station, j.journal, j.first_utc, j.first_seq, j.follows,
            j.seq AS newest_seq, j.head
        FROM journal j JOIN station s ON s.key = j.station
    """,
    "lost_numbers": """
        SELECT s.name AS station, j.journal, CASE l.kind WHEN 0 THEN 'verdict' ELSE 'event' END
            AS kind, l.first, l.last, l.noted_utc
        FROM lost l JOIN journal j ON j.key = l.journal JOIN station s ON s.key = j.station
    """,
    "conflicting_numbers": """
        SELECT s.name AS station, j.journal, CASE c.kind WHEN 0 THEN 'verdict' ELSE 'event' END
            AS kind, c.seq, c.arrived_utc
        FROM conflict c JOIN journal j ON j.key = c.journal JOIN station s ON s.key = j.station
    """,
}
_SCORES = """
    SELECT p.shift_day, {shift}{day_number} AS day_number, s.name AS station, p.product,
        p.product_version, p.simulated, CAST(sum(p.scored) AS BIGINT) AS parts,
        sum(p.score_sum) AS score_sum, sum(p.score_squares) AS score_squares
    FROM production p JOIN station s ON s.key = p.station
    WHERE p.result = 'OK' AND p.scored > 0
    GROUP BY p.shift_day, {shift}s.name, p.product, p.product_version, p.simulated
"""
_DAY_NUMBERS = {
    "sqlite": "CAST(julianday(p.shift_day) AS INTEGER)",
    "postgresql": "p.shift_day - DATE '2000-01-01'",
}
# By how much a station's clock is off: the least difference to the database's own time of its
# newest verdicts. Behind, unless the station sends an old backlog; ahead is certain.
_CLOCKS = {
    "sqlite": """
        SELECT s.name AS station, max(v.arrived_utc) AS newest_utc,
            min((julianday(v.arrived_utc) - julianday(v.decided_utc)) * 86400.0) AS behind_s
        FROM verdict v JOIN station s ON s.key = v.station
        WHERE v.arrived_utc > datetime('now', '-15 minutes')
        GROUP BY s.name
    """,
    "postgresql": """
        SELECT s.name AS station, max(v.arrived_utc) AS newest_utc,
            EXTRACT(EPOCH FROM min(v.arrived_utc - v.decided_utc))::float8 AS behind_s
        FROM verdict v JOIN station s ON s.key = v.station
        WHERE v.arrived_utc > now() - INTERVAL '15 minutes'
        GROUP BY s.name
    """,
}


def view_statements(dialect: str) -> list[str]:
    """Return what drops all views and makes them anew."""
    day_number = _DAY_NUMBERS[dialect]
    views = {
        "scores_by_day": _SCORES.format(shift="", day_number=day_number),
        "scores_by_shift": _SCORES.format(shift="p.shift, ", day_number=day_number),
        "station_clock": _CLOCKS[dialect],
        **VIEWS,
    }
    dropped = [f"DROP VIEW IF EXISTS {name}" for name in reversed(list(views))]
    return [*dropped, *(f"CREATE VIEW {name} AS {query}" for name, query in views.items())]

"""The acceptance suite's client of a deployment: HTTP to its front doors, S3 to its bucket.

It knows nothing of how Nilometer is built and imports none of it, so it works against any server
that speaks the same contract. One idea a module:

    configuration   where the deployment is, from the environment
    multipart       requests built byte by byte, so that odd ones are possible
    capture         sends events, and reads readiness and metrics
    api             asks in HogQL; makes and deletes teams (Nilometer calls them projects)
    bucket          reads objects and byte ranges
    blob            what a blob URL says, and what a stored part holds
    generators      events and blobs of every kind, from a seed
    polling         waits for a condition, with a deadline
    teams           a team for a test, and nothing left of it afterwards
    outage          stops and starts the servers of a local deployment
"""

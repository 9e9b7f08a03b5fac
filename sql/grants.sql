
-- Everyone may look at what is going on (the functions behind the views show only what a role may see); a job
-- can be changed only by members of the role that owns it, a server only by its owner.
GRANT SELECT ON genjob.activity, genjob.servers, genjob.workers TO PUBLIC;

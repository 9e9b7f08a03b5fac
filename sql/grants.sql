
-- Everyone may look at what is going on (the functions behind the views show only what a role may see); a job
-- can be changed only by members of the role that owns it, a server only by its owner.
GRANT SELECT ON genjob.activity, genjob.servers, genjob.backends, genjob.tenants, genjob.workers TO PUBLIC;
GRANT SELECT, UPDATE (state) ON genjob.own_jobs TO PUBLIC;
GRANT SELECT ON genjob.waiting TO PUBLIC;

-- Calls of on_done are made as the owners of the jobs, who may see them, set their run_at and delete them.
GRANT SELECT, DELETE, UPDATE (run_at, attempts, error) ON genjob.callbacks TO PUBLIC;

-- A trigger of gen_jobs on another table would take that table's columns for its own.
REVOKE EXECUTE ON FUNCTION genjob.before_insert(), genjob.before_update(), genjob.before_delete(),
	genjob.after_truncate(), genjob.after_change(), genjob.after_weights(), genjob.after_callbacks() FROM PUBLIC;

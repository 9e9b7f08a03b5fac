
-- Everyone may see what is going on (the functions behind the views show only what a role may see).
-- Only members of the owning role can change a job, and only its owner can change a server.
GRANT SELECT ON genjob.activity, genjob.servers, genjob.backends, genjob.tenants, genjob.workers TO PUBLIC;
GRANT SELECT, UPDATE (state) ON genjob.own_jobs TO PUBLIC;
GRANT SELECT ON genjob.waiting TO PUBLIC;

-- A worker calls on_done as the job's owner. The owner may see these calls, set their run_at and delete them.
GRANT SELECT, DELETE, UPDATE (run_at, attempts, error) ON genjob.callbacks TO PUBLIC;

-- On another table, a trigger function of gen_jobs would read that table's columns as those of gen_jobs.
REVOKE EXECUTE ON FUNCTION genjob.before_insert(), genjob.before_update(), genjob.before_delete(),
	genjob.after_truncate(), genjob.after_change(), genjob.after_weights(), genjob.after_callbacks() FROM PUBLIC;

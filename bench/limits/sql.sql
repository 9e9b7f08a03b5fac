-- What PostgreSQL alone makes of the two changes that a job's row goes through: claimed, then reported, in
-- batches as large as genjob's, with nothing between server and table, no triggers, and nobody else. The
-- limit of whatever keeps its queue in such a table.
CREATE TABLE limit_jobs (LIKE gen_jobs INCLUDING ALL);
ALTER TABLE limit_jobs SET (autovacuum_enabled = off);

CREATE PROCEDURE limit_run(n integer, claim_batch integer DEFAULT 500, report_batch integer DEFAULT 200)
  LANGUAGE plpgsql AS
$$
DECLARE
  at integer;
  answer CONSTANT jsonb := '{"id": "chatcmpl-standin", "model": "stand-in", "usage": {"total_tokens": 6, "prompt_tokens": 2,
    "completion_tokens": 4}, "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content":
    "You said: job 1", "refusal": null}, "logprobs": null, "finish_reason": "stop"}], "created": 1700000000}';
BEGIN
  FOR at IN 1..n BY claim_batch LOOP
    UPDATE limit_jobs j SET state = 'running', attempt = attempt + 1, started_at = now(), idempotency_key = gen_random_uuid()
      FROM unnest(ARRAY(SELECT generate_series(at, at + claim_batch - 1)::bigint)) g (id)
      WHERE j.id = g.id AND j.state = 'queued';
    COMMIT;
  END LOOP;
  FOR at IN 1..n BY report_batch LOOP
    UPDATE limit_jobs j SET state = 'succeeded', result = answer, usage = answer->'usage', finished_at = now(), idempotency_key = NULL
      FROM unnest(ARRAY(SELECT generate_series(at, at + report_batch - 1)::bigint)) g (id)
      WHERE j.id = g.id AND j.state = 'running';
    COMMIT;
  END LOOP;
END;
$$;

-- The demo's whole dealing with genjob: a newcomer may read it from top to bottom. demo/run hands it to psql in this folder:
--   psql -v url=http://127.0.0.1:PORT -v key=USER:PASSWORD -f jobs.sql
\set ON_ERROR_STOP on

CREATE EXTENSION genjob;

-- One GenAI server that speaks two protocols, so it is two foreign servers here: one is given a job and asked about it
-- until it is done, the other answers when it is done. It makes one picture at a time; what is in flight beyond that waits
-- its turn over there, what is not waits here, in the table. poll_interval is how often it is asked how far it is.
CREATE SERVER painter FOREIGN DATA WRAPPER genjob
  OPTIONS (api 'sdcpp', url :'url', max_in_flight '2', poll_interval '200 ms', timeout '5 min');
CREATE SERVER upscaler FOREIGN DATA WRAPPER genjob
  OPTIONS (api 'automatic1111', url :'url', max_in_flight '1', poll_interval '200 ms', timeout '5 min');

-- Secrets are user mappings.
CREATE USER MAPPING FOR PUBLIC SERVER painter OPTIONS (api_key :'key');
CREATE USER MAPPING FOR PUBLIC SERVER upscaler OPTIONS (api_key :'key');

-- With STORE=s3 the pictures go into a bucket, and rows of gen_outputs have their address: psql reads store.sql here.
\if :{?store}
\ir store.sql
\endif

-- Photographs are bytes; here psql reads them, elsewhere your application does.
\set cat `base64 -w 0 photos/cat.jpg`
\set astronaut `base64 -w 0 photos/astronaut.jpg`
\set coffee `base64 -w 0 photos/coffee.png`

BEGIN;

-- A prompt becomes a picture: the job is a row.
INSERT INTO gen_jobs (server, request) VALUES
  ('painter', '{"prompt": "a lighthouse at dawn", "width": 512, "height": 320, "seed": 1}'),
  ('painter', '{"prompt": "snow on the mountains at sunset", "width": 512, "height": 320, "seed": 2}'),
  ('upscaler', '{"prompt": "a sailing boat on a lake at night", "width": 512, "height": 320, "seed": 3}');

-- A photograph goes in through "inputs" and comes out twice as large.
INSERT INTO gen_jobs (server, request, inputs) VALUES
  ('painter', '{"prompt": "the cat, twice as large", "init_image": {"$input": 1}}', ARRAY[decode(:'cat', 'base64')]),
  ('upscaler', '{"prompt": "the astronaut, twice as large"}', ARRAY[decode(:'astronaut', 'base64')]);

-- Who is in a hurry goes first.
INSERT INTO gen_jobs (server, request, inputs, priority) VALUES
  ('upscaler', '{"prompt": "the coffee, in a hurry"}', ARRAY[decode(:'coffee', 'base64')], 10);

-- Nothing has been sent so far. A rollback would leave nothing behind; this starts it all.
COMMIT;

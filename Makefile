# genjob: durable dispatch of GenAI jobs from PostgreSQL (PGXS).
#
#   make demo          everything, shown working, in a throw-away cluster
#   make check         every test, in throw-away clusters; with SANITIZE=1 under sanitizers
#   make tries         the tries of intrusion alone, each with its result: docs/security.md
#   make fuzz          what reads strangers' bytes, fuzzed
#   make bench         how fast it is, beside other queues and the limits
#   make && make install && make installcheck     for packagers
#
# PG_CONFIG chooses the PostgreSQL to build for.

EXTENSION = genjob
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" genjob.control)

MODULE_big = genjob
OBJS = \
	src/genjob.o \
	src/process/launcher.o \
	src/process/dispatcher.o \
	src/process/claimer.o \
	src/process/callbacks.o \
	src/process/caller.o \
	src/process/reasons.o \
	src/process/reporter.o \
	src/process/worker.o \
	src/process/writers.o \
	src/process/writer.o \
	src/process/errand.o \
	src/process/parcels.o \
	src/shared/pipe.o \
	src/shared/settle.o \
	src/queue/trouble.o \
	src/process/unstarted.o \
	src/process/overdue.o \
	src/process/retention.o \
	src/queue/leftout.o \
	src/queue/needed.o \
	src/queue/purge.o \
	src/protocol/awsjson.o \
	src/protocol/handover.o \
	src/queue/complete.o \
	src/queue/environment.o \
	src/base/guard.o \
	src/base/datafile.o \
	src/process/spool.o \
	src/process/spoolfields.o \
	src/base/marker.o \
	src/session/sqlapi.o \
	src/session/presign.o \
	src/session/views.o \
	src/session/wait.o \
	src/session/wholelocks.o \
	src/session/strangers.o \
	src/session/triggers.o \
	src/session/check.o \
	src/session/change.o \
	src/session/row.o \
	src/session/schemaowner.o \
	src/session/after.o \
	src/session/ids.o \
	src/session/defaults.o \
	src/session/hooks.o \
	src/session/refusals.o \
	src/session/ondone.o \
	src/life/life.o \
	src/life/drive.o \
	src/life/steps.o \
	src/life/next.o \
	src/life/fetch.o \
	src/life/same.o \
	src/life/submit.o \
	src/life/resume.o \
	src/life/verdict.o \
	src/life/outcome.o \
	src/life/postponed.o \
	src/life/poll.o \
	src/life/progress.o \
	src/life/asking.o \
	src/life/cancel.o \
	src/life/cancelline.o \
	src/life/cuts.o \
	src/life/lookup.o \
	src/life/download.o \
	src/life/store.o \
	src/life/storecall.o \
	src/life/storeline.o \
	src/life/traced.o \
	src/life/upload.o \
	src/life/uploadanswer.o \
	src/life/uploadcall.o \
	src/life/pour.o \
	src/life/leftover.o \
	src/life/rowuploads.o \
	src/life/sweeps.o \
	src/life/calls.o \
	src/life/built.o \
	src/schedule/schedule.o \
	src/schedule/queues.o \
	src/schedule/lines.o \
	src/schedule/parts.o \
	src/schedule/memoryline.o \
	src/schedule/putoff.o \
	src/schedule/bound.o \
	src/schedule/turns.o \
	src/schedule/stride.o \
	src/schedule/crowd.o \
	src/schedule/lanes.o \
	src/schedule/weights.o \
	src/limits/limits.o \
	src/limits/pace.o \
	src/limits/ends.o \
	src/limits/cancelling.o \
	src/limits/why.o \
	src/limits/bucket.o \
	src/limits/breaker.o \
	src/limits/capacity.o \
	src/base/memory.o \
	src/base/machine.o \
	src/base/clock.o \
	src/queue/rowupdate.o \
	src/queue/statement.o \
	src/queue/transact.o \
	src/queue/extension.o \
	src/queue/tables.o \
	src/queue/attached.o \
	src/queue/awaited.o \
	src/queue/role.o \
	src/queue/plans.o \
	src/queue/find.o \
	src/queue/failing.o \
	src/queue/sweep.o \
	src/queue/claim.o \
	src/queue/direct.o \
	src/queue/idlist.o \
	src/queue/jobrow.o \
	src/queue/keepdue.o \
	src/queue/orphan.o \
	src/queue/cancels.o \
	src/queue/reference.o \
	src/queue/report.o \
	src/queue/ended.o \
	src/queue/dependency.o \
	src/queue/depround.o \
	src/queue/uniquekey.o \
	src/queue/sent.o \
	src/queue/depsession.o \
	src/queue/followup.o \
	src/queue/gone.o \
	src/queue/callback.o \
	src/queue/calling.o \
	src/queue/function.o \
	src/queue/calldue.o \
	src/life/rowstate.o \
	src/queue/save.o \
	src/queue/refused.o \
	src/queue/session.o \
	src/queue/submit.o \
	src/queue/printable.o \
	src/queue/share.o \
	src/shared/commit.o \
	src/shared/callers.o \
	src/server/modelpresets.o \
	src/server/preset.o \
	src/server/servicepresets.o \
	src/server/addressing.o \
	src/server/storecheck.o \
	src/server/aws.o \
	src/server/stores.o \
	src/server/storeplace.o \
	src/server/keytemplate.o \
	src/server/grammar.o \
	src/server/nearest.o \
	src/protocol/request.o \
	src/protocol/headers.o \
	src/protocol/s3.o \
	src/protocol/links.o \
	src/protocol/saved.o \
	src/protocol/link.o \
	src/protocol/s3answer.o \
	src/protocol/s3refusal.o \
	src/protocol/s3request.o \
	src/protocol/s3upload.o \
	src/protocol/openupload.o \
	src/protocol/signing.o \
	src/protocol/webhook.o \
	src/protocol/sigv4.o \
	src/protocol/xml.o \
	src/protocol/body.o \
	src/protocol/binary.o \
	src/protocol/values.o \
	src/protocol/multipart.o \
	src/protocol/reply.o \
	src/protocol/prediction.o \
	src/protocol/found.o \
	src/protocol/answer.o \
	src/protocol/output.o \
	src/protocol/fetch.o \
	src/protocol/fetched.o \
	src/protocol/failure.o \
	src/protocol/stuck.o \
	src/protocol/words.o \
	src/protocol/delay.o \
	src/protocol/disguise.o \
	src/protocol/duration.o \
	src/protocol/stream.o \
	src/protocol/assembly.o \
	src/protocol/event.o \
	src/protocol/parts.o \
	src/protocol/missing.o \
	src/protocol/charset.o \
	src/protocol/reasons.o \
	src/server/pointer.o \
	src/http/http.o \
	src/http/callbacks.o \
	src/http/deadlines.o \
	src/http/handle.o \
	src/http/heavy.o \
	src/http/decode.o \
	src/http/idle.o \
	src/http/streams.o \
	src/http/outcome.o \
	src/http/parked.o \
	src/http/pauses.o \
	src/http/sluice.o \
	src/http/spill.o \
	src/http/visits.o \
	src/http/tcp.o \
	src/http/watch.o \
	src/http/header.o \
	src/http/url.o \
	src/http/address.o \
	src/shared/shown.o \
	src/shared/shmem.o \
	src/shared/waiters.o \
	src/shared/figures.o \
	src/shared/standby.o \
	src/shared/stats.o \
	src/life/job.o \
	src/server/server.o \
	src/server/shape.o \
	src/server/streamrules.o \
	src/server/options.o \
	src/server/optionvalue.o \
	src/server/validator.o \
	src/server/unusable.o \
	src/base/seldom.o \
	src/base/settings.o \
	src/base/bytes.o \
	src/base/base64.o \
	src/base/clip.o \
	src/base/trace.o \
	src/base/digest.o \
	src/base/media.o \
	src/base/json.o \
	src/base/jsontext.o \
	src/base/jsontree.o \
	src/base/jsonb.o \
	src/base/jsonbtree.o \
	src/base/backoff.o \
	src/base/status.o

SQL_PARTS = sql/schema.sql sql/wrapper.sql sql/api.sql sql/views.sql sql/owner.sql sql/grants.sql
DATA_built = genjob--$(EXTVERSION).sql
DATA = $(wildcard sql/upgrade/genjob--*.sql)

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=test --load-extension=genjob
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=test/output_iso --load-extension=genjob
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PKG_CONFIG ?= pkg-config
# Answers in br and zstd are decoded where these are there to build with, as they are for most libcurls.
DECODERS = $(shell for lib in libbrotlidec libzstd; do ! $(PKG_CONFIG) --exists $$lib || echo $$lib; done)
# Only what PostgreSQL looks up by name is exported (before 16 its headers leave that to the compiler).
PG_CPPFLAGS = -I$(srcdir)/src -D_GNU_SOURCE -DPGDLLEXPORT='__attribute__((visibility("default")))' \
	-DGENJOB_VERSION='"$(EXTVERSION)"' $(shell $(PKG_CONFIG) --cflags libcurl libcjson zlib $(DECODERS)) \
	$(if $(filter libbrotlidec,$(DECODERS)),-DGENJOB_BROTLI) $(if $(filter libzstd,$(DECODERS)),-DGENJOB_ZSTD)
PG_CFLAGS = -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = $(shell $(PKG_CONFIG) --libs libcurl libcjson zlib $(DECODERS))

EXTRA_CLEAN = genjob--*.sql test/results test/output_iso test/regression.diffs test/regression.out test/log .built-for

ifeq (,$(filter bench check check-clients demo format fuzz lint tries,$(MAKECMDGOALS)))

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifeq (,$(PGXS))
$(error $(PG_CONFIG) does not run. Install the development files of PostgreSQL 15 or later (tools/install-packages build), \
	or name its pg_config: make PG_CONFIG=/path/to/pg_config)
endif
ifneq (yes,$(shell test -r '$(PGXS)' && echo yes))
$(error $(PG_CONFIG) names $(PGXS), which is not there. Install the development files of that PostgreSQL \
	(tools/install-packages build), or name another pg_config: make PG_CONFIG=/path/to/pg_config)
endif
ifeq (,$(filter clean distclean uninstall installcheck,$(MAKECMDGOALS)))
ifneq (yes,$(shell $(PKG_CONFIG) --exists 'libcurl >= 7.88' libcjson && echo yes))
$(error $(PKG_CONFIG) finds no libcurl of 7.88 or later, or no cJSON. Install their development files \
	(tools/install-packages build))
endif
endif

include $(PGXS)

ifneq (yes,$(shell test '$(MAJORVERSION)' -ge 15 && echo yes))
$(error genjob needs PostgreSQL 15 or later, and $(PG_CONFIG) is of $(VERSION). Name another one: make PG_CONFIG=/path/to/pg_config)
endif

ifneq (,$(filter installcheck,$(MAKECMDGOALS)))
# the spec of two-phase commit needs a server that has max_prepared_transactions
ifeq (0,$(shell '$(bindir)/psql' -XAtqc 'SHOW max_prepared_transactions' -d postgres 2>/dev/null))
$(warning max_prepared_transactions is 0 on this server, so the isolation test two-phase-commit is skipped)
ISOLATION := $(filter-out two-phase-commit,$(ISOLATION))
endif
endif

genjob--$(EXTVERSION).sql: $(SQL_PARTS) genjob.control
	cat $(SQL_PARTS) > $@

$(OBJS): $(wildcard src/*.h src/*/*.h) .built-for

# the TAP tests share modules, and call a GenAI server of the project's
PROVE_FLAGS += -I test/perl
installcheck: standin

standin:
	$(MAKE) -C test/standin

# objects of another PostgreSQL version, or with other flags, are not reused
.built-for: FORCE
	@echo '$(VERSION) $(COPT)' | cmp -s - $@ || echo '$(VERSION) $(COPT)' > $@

.PHONY: FORCE standin

else

# ---- targets that work before there is a PostgreSQL to build for (PGXS has a check of its own) ----

bench:
	@LONG=$(LONG) DOC=$(DOC) PEERS="$(PEERS)" PINS="$(PINS)" bench/run $(B)

check:
	@SANITIZE=$(SANITIZE) test/run $(T)

check-clients:
	@CLIENTS=clients test/run t/095_clients

demo:
	@STORE=$(STORE) demo/run

format:
	@tools/format

fuzz:
	@T=$(T) SEED=$(SEED) MERGE=$(MERGE) test/fuzz/run $(F)

lint:
	@tools/lint

tries:
	@TRIES=yes test/run t/07

.PHONY: bench check check-clients demo format fuzz lint tries

endif

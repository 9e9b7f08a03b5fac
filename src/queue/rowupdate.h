/*
 * rowupdate.h
 *		Updates rows of gen_jobs by their ids, without a statement; for the
 *		files of this folder only.
 */
#ifndef GENJOB_ROWUPDATE_H
#define GENJOB_ROWUPDATE_H

#include "utils/snapshot.h"

#include "life/job.h"
#include "life/rowstate.h"

typedef struct RowUpdate RowUpdate;

/* In a subtransaction; call the others between these two */
extern RowUpdate *rowupdate_begin(Snapshot snapshot);
extern void rowupdate_end(RowUpdate *update);

extern bool rowupdate_read(RowUpdate *update, int64 id);

/* For the row that was read last */
extern bool rowupdate_is_null(const RowUpdate *update, JobColumn column);
extern Datum rowupdate_value(const RowUpdate *update, JobColumn column);
extern RowState rowupdate_state(const RowUpdate *update);
extern void rowupdate_set(RowUpdate *update, JobColumn column, Datum value);
extern void rowupdate_set_null(RowUpdate *update, JobColumn column);
extern void rowupdate_set_state(RowUpdate *update, RowState state);
extern bool rowupdate_write(RowUpdate *update);

#endif /* GENJOB_ROWUPDATE_H */

/*
 * rowstate.h
 *		The values of the type gen_job_state.
 */
#ifndef GENJOB_ROWSTATE_H
#define GENJOB_ROWSTATE_H

typedef enum RowState
{
	ROW_WAITING,
	ROW_QUEUED,
	ROW_RUNNING,
	ROW_SUCCEEDED,
	ROW_FAILED,
	ROW_CANCELLED,
	ROW_STATES,
	ROW_GONE = ROW_STATES /* there is no row any more */
} RowState;

extern const char *rowstate_name(RowState state);
extern RowState rowstate_parse(const char *name);
extern bool rowstate_is_final(RowState state);

#endif /* GENJOB_ROWSTATE_H */

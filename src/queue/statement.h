/*
 * statement.h
 *		The statements of genjob and how they are run; for the files of this folder only.
 */
#ifndef GENJOB_STATEMENT_H
#define GENJOB_STATEMENT_H

#include "executor/spi.h"
#include "utils/array.h"

/* Why a job that was claimed is postponed */
#define MEMORY_IS_FULL \
	"genjob.max_memory is reached: other jobs use the memory that this job needs. Wait, or raise genjob.max_memory."

/* A statement whose plan is kept */
typedef struct Statement
{
	int nargs;
	Oid args[24];
	const char *text; /* "@" stands for the extension's schema */
} Statement;

typedef enum StatementId
{
	FIND_CHANGED,
	FIND_LANES,
	FIND_READY,
	FIND_WEIGHTS,
	FIND_OWNER_WEIGHTS,
	FIND_DUE,
	FIND_WAITING,
	FIND_NEXT_DUE,
	KEEP_DUE,
	FIND_NEXT_EXPIRY,
	FIND_OWNERS,
	FIND_ORPHANS,
	FIND_ATTEMPT,
	FIND_REMOTE,
	FIND_SPOOLED,
	FORGET_KEY,
	PUT_ASIDE,
	FIND_CANCELLING,
	FIND_CANCELS,
	FAIL_EXPIRED,
	LOCK_SERVERLESS,
	FAIL_LOCKED,
	FAIL_OVERDUE,
	FIND_SERVERLESS,
	FIND_EXPIRED,
	EXPIRE_ONE,
	CLAIM,
	READ_OUTPUT,
	READ_RESULT,
	FIND_SENT,
	REPORT,
	TEST_JSON,
	TEST_ERRORS,
	SAVE,
	FORGET_OUTPUTS,
	STORE_OBJECT,
	STORE_OUTPUT,
	FIND_ENDED,
	TAKE_FOLLOW_UPS,
	FIND_FOLLOW_UPS,
	NOTIFY_ENDS,
	HAND_OVER,
	ADD_CALLBACKS,
	NOTE_ENDS,
	NOTE_END,
	FIND_CALLBACKS,
	BLOCK_CALLBACKS,
	FAIL_CALLBACK,
	STATEMENTS
} StatementId;

/* The columns of FIND_CHANGED; from CHANGED_SERVER on, find_take_row()'s */
typedef enum ChangedColumn
{
	CHANGED_ID = 1,
	CHANGED_IS_QUEUED,
	CHANGED_IS_RUNNING,
	CHANGED_ATTEMPT,
	CHANGED_SERVER,
	CHANGED_OWNER,
	CHANGED_TENANT,
	CHANGED_PRIORITY,
	CHANGED_RUN_AT,
	CHANGED_EXPIRES_AT,
	CHANGED_IS_FINAL, /* cancelled or failed */
	CHANGED_HAS_FOLLOW_UP,
	CHANGED_IS_WAITING,
	CHANGED_IS_CANCELLED,
	CHANGED_IS_BLOCKED
} ChangedColumn;

extern uint64 statement_run(StatementId id, Datum *args, const char *nulls);
extern uint64 statement_execute(const Statement *statement, SPIPlanPtr *plan, Datum *args,
								const char *nulls);
extern uint64 statement_schema_changes;

extern const char *statement_schema(void);
extern void statement_set_schema(const char *name);

extern void statement_set_result(SPITupleTable *result);
extern void statement_read_row(uint64 row);
extern void statement_forget_row(void);

/* A column of a row of the last result */
extern Datum statement_value(uint64 row, int column, bool *isnull);
extern Datum statement_not_null(uint64 row, int column);
extern char *statement_name(uint64 row, int column);

extern TimestampTz statement_time_or_none(uint64 row, int column);
extern ArrayType *statement_int8_array(const int64 *values, int n);
extern ArrayType *statement_int4_array(const int32 *values, int n);

#endif /* GENJOB_STATEMENT_H */

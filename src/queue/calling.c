/*
 * calling.c
 *		Reads a job and calls its on_done function, by OID.
 *
 * A schema's owner may rename it and put another in its place at any time,
 * even between our check of a name and the parse of a statement with that
 * name.  The statement would then run the owner's code as the job's owner, who
 * may be a superuser.  So nothing here trusts names.  PostgreSQL calls
 * make_param() whenever it analyses one of the statements.  make_param()
 * refuses every table except gen_jobs, by OID, and builds the function call
 * from the OID that was checked.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_expr.h"
#include "parser/parse_func.h"
#include "parser/parse_node.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "queue/calling.h"
#include "queue/function.h"
#include "queue/session.h"

#define ROW "genjob_row" /* the alias of gen_jobs in the statements */
#define MAX_PARAMS 3

/* A statement on the job's row. */
typedef struct RowStatement
{
	const char *text; /* "@" stands for gen_jobs */
	int nparams;
	Oid types[MAX_PARAMS]; /* invalid: the call of the function, which takes no value */
	SPIPlanPtr plan;       /* NULL: not prepared */
} RowStatement;

/* compares the owner: a row of callbacks may name another role's job */
static RowStatement read_job =
	{"SELECT " ROW ".on_done, " ROW ".attempt OPERATOR(pg_catalog.=) $2"
	 "  AND " ROW ".owner OPERATOR(pg_catalog.=) $3 AND " ROW
	 ".state::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY['succeeded', 'failed', 'cancelled'])"
	 " FROM @ " ROW " WHERE " ROW ".id OPERATOR(pg_catalog.=) $1",
	 3,
	 {INT8OID, INT4OID, OIDOID}};
static RowStatement call_function = {"SELECT $2 FROM @ " ROW " WHERE " ROW
									 ".id OPERATOR(pg_catalog.=) $1",
									 2,
									 {INT8OID, InvalidOid}};

static char *jobs_table = NULL; /* quoted, with its schema */
static Oid jobs_table_oid = InvalidOid;
static Oid jobs_schema = InvalidOid;
static Oid called = InvalidOid; /* the function that call_function calls; it was checked */

/* ---------- the table ---------- */

static void
forget_plan(RowStatement *statement)
{
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
}

/*
 * True if the name that the statements use still means gen_jobs.  Somebody may
 * rename the schema and give its name to another.
 */
static bool
knows_table(void)
{
	char *schema;

	if (jobs_table == NULL)
		return false;
	schema = get_namespace_name(get_rel_namespace(jobs_table_oid));
	return schema != NULL && get_rel_namespace(jobs_table_oid) == jobs_schema &&
		   strcmp(quote_qualified_identifier(schema, "gen_jobs"), jobs_table) == 0 &&
		   get_relname_relid("gen_jobs", jobs_schema) == jobs_table_oid;
}

/*
 * Finds gen_jobs, unless it is still known.
 */
void
calling_find_table(void)
{
	if (knows_table())
		return;
	if (jobs_table != NULL)
		pfree(jobs_table);
	jobs_table = NULL;
	forget_plan(&read_job);
	forget_plan(&call_function);
	jobs_table =
		MemoryContextStrdup(TopMemoryContext, session_find_table("gen_jobs", &jobs_table_oid));
	jobs_schema = get_rel_namespace(jobs_table_oid);
}

/* ---------- what a statement means ---------- */

static void
check_tables(const ParseState *pstate)
{
	ListCell *cell;

	foreach(cell, pstate->p_rtable)
	{
		if (lfirst_node(RangeTblEntry, cell)->relid != jobs_table_oid)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
							errmsg("gen_jobs was renamed while on_done was called")));
	}
}

static Node *
make_call(ParseState *pstate)
{
	ColumnRef *star = makeNode(ColumnRef);
	Node *last_srf = pstate->p_last_srf;
	FuncExpr *call;
	Node *row;
	Oid *types;
	int ntypes;

	star->fields = list_make2(makeString(pstrdup(ROW)), makeNode(A_Star));
	star->location = -1;
	row = transformExpr(pstate, (Node *) star, pstate->p_expr_kind);
	(void) get_func_signature(called, &types, &ntypes);
	if (ntypes != 1 || types[0] != exprType(row))
		elog(ERROR, "function %u does not take a row of gen_jobs", called);
	call = makeFuncExpr(called, get_func_rettype(called), list_make1(row), InvalidOid, InvalidOid,
						COERCE_EXPLICIT_CALL);
	call->funcretset = get_func_retset(called);
	if (call->funcretset)
	{
		check_srf_call_placement(pstate, last_srf, -1);
		pstate->p_last_srf = (Node *) call;
	}
	return (Node *) call;
}

/*
 * Returns what a parameter of a statement stands for.  An error if the statement reads another table than gen_jobs.
 */
static Node *
make_param(ParseState *pstate, ParamRef *ref)
{
	const RowStatement *statement = pstate->p_ref_hook_state;
	Param *param;

	check_tables(pstate);
	if (!OidIsValid(statement->types[ref->number - 1]))
		return make_call(pstate);
	param = makeNode(Param);
	param->paramkind = PARAM_EXTERN;
	param->paramid = ref->number;
	param->paramtype = statement->types[ref->number - 1];
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(param->paramtype);
	param->location = -1;
	return (Node *) param;
}

static void
set_up_parser(ParseState *pstate, void *arg)
{
	pstate->p_paramref_hook = make_param;
	pstate->p_ref_hook_state = arg;
}

static uint64
run_statement(RowStatement *statement, const Datum *values)
{
	ParamListInfo params = makeParamList(statement->nparams);
	int code;
	int i;

	for (i = 0; i < statement->nparams; i++)
		params->params[i] =
			(ParamExternData){values[i], false, PARAM_FLAG_CONST, statement->types[i]};
	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare_params(session_name_table(statement->text, jobs_table),
											 set_up_parser, statement, 0);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare: %s", statement->text);
		statement->plan = plan;
	}
	code = SPI_execute_plan_with_paramlist(statement->plan, params, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute statement: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/* ---------- the job and its function ---------- */

/*
 * Reads a job.  *on_done: NULL if it names no function.  *has_ended: this role
 * owns the job, and it ended with this attempt.  False if there is no such
 * job.
 */
bool
calling_read_job(int64 job, int attempt, char **on_done, bool *has_ended)
{
	Datum values[MAX_PARAMS] = {Int64GetDatum(job), Int32GetDatum(attempt),
								ObjectIdGetDatum(GetSessionUserId())};
	bool isnull;
	Datum name;

	if (run_statement(&read_job, values) == 0)
		return false;
	name = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	*on_done = isnull ? NULL : TextDatumGetCString(name);
	*has_ended =
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	return true;
}

/*
 * Returns the function that on_done names.  Raises an error if there is none,
 * or if this role may not call it.
 */
static Oid
find_function(const char *name)
{
	Oid function = function_look_up(name, jobs_table_oid, true);

	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("on_done names no function f(gen_jobs) that exists: \"%s\"",
							   pnstrdup(name, pg_mbcliplen(name, strlen(name), 200))),
						errhint("Create it, or set on_done to another function.")));
	if (!compat_may_use_schema(get_func_namespace(function), GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for schema %s",
							   get_namespace_name(get_func_namespace(function))),
						errhint("Grant USAGE on the schema to the owner of the job.")));
	if (!function_may_be_called(function, GetSessionUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("jobs of a superuser do not call function %s of role \"%s\"",
						function_name(function), function_owner_name(function)),
				 errhint(
					 "ALTER FUNCTION ... OWNER TO a superuser if you trust it, or insert such jobs as another role.")));
	return function;
}

/*
 * Calls the function on_done with the job's row.  Keeps the plan until another
 * function is called.
 */
void
calling_run(const char *on_done, int64 job)
{
	Oid function = find_function(on_done);
	Datum values[MAX_PARAMS] = {Int64GetDatum(job)};

	if (function != called)
		forget_plan(&call_function);
	called = function;
	(void) run_statement(&call_function, values);
}

/*
 * function.h
 *		The functions that on_done names.
 */
#ifndef GENJOB_FUNCTION_H
#define GENJOB_FUNCTION_H

extern bool function_is_name(const char *name);
extern bool function_is_ambiguous(Oid function, Oid table);
extern Oid function_look_up(const char *name, Oid table, bool is_qualified);
extern bool function_is_trusted(Oid function, Oid role);
extern bool function_may_be_called(Oid function, Oid role);
extern char *function_name(Oid function);
extern const char *function_owner_name(Oid function);

#endif /* GENJOB_FUNCTION_H */

/*
 * schemaowner.h
 *		Refuses statements of the owner of the schema that would stop the jobs of all roles.
 */
#ifndef GENJOB_SCHEMAOWNER_H
#define GENJOB_SCHEMAOWNER_H

#include "nodes/parsenodes.h"

extern void schemaowner_check(Node *statement);

#endif /* GENJOB_SCHEMAOWNER_H */

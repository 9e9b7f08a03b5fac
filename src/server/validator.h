/*
 * validator.h
 *		Checks the OPTIONS of CREATE and ALTER SERVER and USER MAPPING.
 */
#ifndef GENJOB_VALIDATOR_H
#define GENJOB_VALIDATOR_H

#include "nodes/pg_list.h"

extern const List *validator_note_altered(const List *options);

#endif /* GENJOB_VALIDATOR_H */

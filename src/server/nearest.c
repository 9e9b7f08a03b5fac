/*
 * nearest.c
 *		Which of some names a mistyped one was probably meant to be.
 */
#include "postgres.h"

#include "utils/formatting.h"
#include "utils/varlena.h"

#include "server/nearest.h"

#define MAX_DISTANCE 2 /* letters that must be added, left out or replaced */

/*
 * Keeps name, which must stay valid and be in lower case, if it is near to the wanted name, whose case does not count,
 * and nearer than all before it.  In a short name a mistake or two would change too much of it.
 */
void
nearest_offer(Nearest *nearest, const char *name)
{
	int length = strlen(nearest->wanted);
	int most = Min(MAX_DISTANCE, length / 3); /* so near a name must be */
	char *wanted;
	int distance;

	if (nearest->name != NULL)
		most = Min(most, nearest->distance - 1);
	if (length >= NAMEDATALEN || most <= 0)
		return;
	wanted = asc_tolower(nearest->wanted, length);
	distance =
		varstr_levenshtein_less_equal(wanted, length, name, strlen(name), 1, 1, 1, most, true);
	pfree(wanted);
	if (distance > most)
		return;
	nearest->name = name;
	nearest->distance = distance;
}

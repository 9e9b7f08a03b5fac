/*
 * nearest.c
 *		Which of some names a mistyped one was probably meant to be.
 */
#include "postgres.h"

#include "server/nearest.h"

#define LONGEST 32     /* bytes; a longer name is near to none */
#define MAX_DISTANCE 2 /* letters that differ */

/*
 * Returns how many letters must be added, left out or replaced to make b of a.  Case does not count.
 */
static int
count_differences(const char *a, const char *b)
{
	int costs[LONGEST + 1]; /* to make the first j letters of b */
	int n = strlen(b);
	int i;
	int j;

	for (j = 0; j <= n; j++)
		costs[j] = j;
	for (i = 1; a[i - 1] != '\0'; i++)
	{
		int diagonal = costs[0];

		costs[0] = i;
		for (j = 1; j <= n; j++)
		{
			int replaced = diagonal + (pg_ascii_tolower((unsigned char) a[i - 1]) !=
									   pg_ascii_tolower((unsigned char) b[j - 1]));

			diagonal = costs[j];
			costs[j] = Min(replaced, Min(costs[j - 1], costs[j]) + 1);
		}
	}
	return costs[n];
}

/*
 * Keeps name, which must stay valid, if it is near to the wanted name and nearer than all before it.
 * In a short name a mistake or two would change too much of it.
 */
void
nearest_offer(Nearest *nearest, const char *name)
{
	int length = strlen(nearest->wanted);
	int distance;

	if (length > LONGEST || strlen(name) > LONGEST)
		return;
	distance = count_differences(nearest->wanted, name);
	if (distance > MAX_DISTANCE || distance * 3 > length ||
		(nearest->name != NULL && distance >= nearest->distance))
		return;
	nearest->name = name;
	nearest->distance = distance;
}

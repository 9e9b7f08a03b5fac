/*
 * trace.c
 *		Makes text of others fit for a line of the log.
 */
#include "postgres.h"

#include "base/trace.h"

#define MAX_NAME 100   /* bytes */
#define MAX_REASON 200 /* bytes */

/*
 * Returns the first len bytes of text in ASCII, palloc'd: the log may be in
 * another encoding.
 */
static char *
copy_ascii(const char *text, size_t len)
{
	char *copy = pnstrdup(text, len);
	char *p;

	for (p = copy; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	return copy;
}

/*
 * Returns a name, such as a provider's id of a prediction, fit to be printed;
 * palloc'd.
 */
const char *
trace_name(const char *text)
{
	return text ? copy_ascii(text, MAX_NAME) : "";
}

/*
 * Returns ": " and how a sentence about an error begins; palloc'd.  Stops at
 * the first colon: behind it others may speak, and a server's own words are
 * part of its answer.  Empty if there is no sentence.
 */
const char *
trace_reason(const char *sentence)
{
	const char *colon;
	size_t len;

	if (sentence == NULL)
		return "";
	colon = strstr(sentence, ": ");
	len = colon ? (size_t) (colon - sentence) : strlen(sentence);
	return psprintf(": %s", copy_ascii(sentence, Min(len, MAX_REASON)));
}

/*
 * input.c
 *		How harnesses read their input, and what they hold its results to.
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/memutils.h"

#include "fuzz.h"
#include "base/json.h"
#include "base/memory.h"

#define JSONB_GROWTH (4 * 1024 * 1024) /* characters by which a text may grow when it is printed */

/* ---------- pieces of it ---------- */

static char *
take(FuzzInput *input, size_t len, size_t skipped)
{
	char *piece = palloc(len + 1);

	memcpy(piece, input->data, len);
	piece[len] = '\0';
	len = Min(len + skipped, input->len);
	input->data += len;
	input->len -= len;
	return piece;
}

/*
 * The next line, without its end.
 */
char *
input_take_line(FuzzInput *input)
{
	const char *newline = memchr(input->data, '\n', input->len);
	char *line = take(input, newline ? newline - input->data : input->len, 1);

	json_sanitize_text(line, strlen(line));
	return line;
}

/*
 * The next word of a line, whose blanks are written "+"; the empty text at the end.
 */
char *
input_take_word(char **line)
{
	char *word = *line + strspn(*line, " ");
	size_t len = strcspn(word, " ");
	char *plus;

	*line = word + len;
	word = pnstrdup(word, len);
	while ((plus = strchr(word, '+')) != NULL)
		*plus = ' ';
	return word;
}

/*
 * The lines up to an empty one, as they stand.
 */
char *
input_take_block(FuzzInput *input, size_t *len)
{
	const char *end = memmem(input->data, input->len, "\n\n", 2);

	*len = end ? end + 1 - input->data : input->len;
	if (input->len > 0 && *input->data == '\n')
		*len = 0;
	return take(input, *len, 1);
}

/*
 * What is left, up to a NUL byte.
 */
char *
input_take_text(FuzzInput *input)
{
	return take(input, strnlen(input->data, input->len), 1);
}

/*
 * The same, as a column of a table has it.
 */
char *
input_take_utf8(FuzzInput *input)
{
	char *text = input_take_text(input);

	json_sanitize_text(text, strlen(text));
	return text;
}

/*
 * All that is left; no NUL byte follows.
 */
char *
input_take_bytes(FuzzInput *input, size_t *len)
{
	char *bytes = palloc(input->len);

	*len = input->len;
	memcpy(bytes, input->data, input->len);
	input->data += input->len;
	input->len = 0;
	return bytes;
}

/*
 * Which of names the word is.
 */
int
input_choose(const char *word, const char *const *names, int n)
{
	unsigned hash = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if (strcmp(names[i], word) == 0)
			return i;
	}
	for (; *word != '\0'; word++)
		hash = hash * 31 + (unsigned char) *word;
	return (int) (hash % n);
}

/* ---------- what belongs to a call ---------- */

static List *
add_option(List *defs, const char *name, const char *value)
{
	DefElem *def = makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1);

	return lappend(defs, def);
}

/*
 * The options of a server of that api, with those that the rest of the line has ("name=value").  An error
 * where they are not valid.
 */
ServerOptions *
input_read_options(const char *api, char **line)
{
	ServerOptions *options = palloc(sizeof(ServerOptions));
	List *defs = add_option(NIL, "api", api);
	char *word;

	defs = add_option(defs, "url", "https://api.example.com/base");
	defs = add_option(defs, "model", "maker/model:1");
	if (strcmp(api, "s3") == 0)
		defs = add_option(defs, "bucket", "pictures");
	defs = add_option(defs, "region", "eu-central-1");
	if (strcmp(api, "s3") != 0)
		defs = add_option(defs, "service", "lambda");
	while (*(word = input_take_word(line)) != '\0')
	{
		char *value = strchr(word, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		defs = add_option(defs, word, value);
	}
	options_parse_server(defs, options);
	return options;
}

static Bytes *
bytes_of(const char *data, size_t len)
{
	Bytes *bytes = bytes_create(CurrentMemoryContext, MaxAllocSize);

	/* of just its size, and the NUL byte that http.c puts behind it */
	bytes->data = malloc(len + 1);
	memcpy(bytes->data, data, len);
	bytes->data[len] = '\0';
	bytes->len = bytes->capacity = len;
	memory_resize(MEMORY_ANSWERS, NULL, 0, bytes->capacity);
	return bytes;
}

/*
 * An answer: a line with status, how it ended and flags, headers up to an empty line, and a body.
 */
HttpReply *
input_take_reply(FuzzInput *input)
{
	static const char *const errors[] = {"ok",      "resolve",   "connect", "forbidden",
										 "tls",     "untrusted", "timeout", "cut",
										 "garbled", "large",     "memory",  "other"};
	HttpReply *reply = palloc0(sizeof(HttpReply));
	char *line = input_take_line(input);
	char *word;
	size_t len;
	char *bytes;

	reply->status = atoi(input_take_word(&line)) % 1000;
	reply->error = (HttpError) input_choose(input_take_word(&line), errors, lengthof(errors));
	reply->error_text = pstrdup(reply->error == HTTP_OK ? "" : "words of libcurl");
	while (*(word = input_take_word(&line)) != '\0')
	{
		reply->sent |= strcmp(word, "sent") == 0;
		reply->peer_is_private |= strcmp(word, "private") == 0;
	}
	bytes = input_take_block(input, &len);
	reply->headers = bytes_of(bytes, len);
	bytes = input_take_bytes(input, &len);
	reply->body = bytes_of(bytes, len);
	return reply;
}

/* ---------- what must hold ---------- */

/*
 * Ends the process, as a finding, where something does not hold.
 */
void
must_be(bool holds, const char *what, const char *text)
{
	if (holds)
		return;
	fprintf(stderr, "this does not hold: %s%s%s\n", what, text ? ": " : "", text ? text : "");
	abort();
}

/*
 * Text for a table, or NULL.
 */
void
must_be_utf8(const char *text, const char *what)
{
	int len = text ? (int) strlen(text) : 0;

	if (text != NULL && pg_encoding_verifymbstr(PG_UTF8, text, len) != len)
		must_be(false, psprintf("%s is UTF-8", what), text);
}

/*
 * Text that a user may see, or NULL: for a table, and without the secret.
 */
void
must_be_text(const char *text, const char *what)
{
	must_be_utf8(text, what);
	if (text != NULL && strstr(text, FUZZ_SECRET) != NULL)
		must_be(false, psprintf("%s has no secret", what), text);
}

/*
 * How many characters a number takes that jsonb prints, which it does without an exponent.
 */
static size_t
printed_len(const char *number, size_t len)
{
	size_t mantissa = strcspn(number, "eE");
	long exponent = mantissa < len ? strtol(number + mantissa + 1, NULL, 10) : 0;

	return mantissa + labs(Max(Min(exponent, INT_MAX), -INT_MAX));
}

/*
 * JSON for a column, or NULL: its numbers are not much longer when they are printed.  (1e131071 is eight characters of
 * JSON, and printed 131,072: a thousand of them make a row that nobody can read.)
 */
void
must_be_jsonb(const char *text, const char *what)
{
	size_t growth = 0;
	const char *p;

	must_be_utf8(text, what);
	for (p = text; p != NULL && *p != '\0';)
	{
		size_t len = strspn(p, "+-.eE0123456789");

		if (*p == '"')
		{
			for (p++; *p != '"'; p++)
				p += *p == '\\';
			p++;
		}
		else if (len > 0 && *p != 'e') /* of true and false */
		{
			growth += Max(printed_len(p, len), len) - len;
			p += len;
		}
		else
			p++;
	}
	must_be(text == NULL || growth <= JSONB_GROWTH, "JSON does not grow when it is printed", text);
}

/*
 * Memory that can be read from end to end.
 */
void
must_be_bytes(const char *data, size_t len)
{
	static volatile unsigned sum;
	size_t i;

	for (i = 0; i < len; i++)
		sum += (unsigned char) data[i];
}

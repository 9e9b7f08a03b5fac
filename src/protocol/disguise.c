/*
 * disguise.c
 *		The forms in which an answer may repeat a secret, and their
 *		overwriting.
 *
 * A text is searched in three ways.  As it is.  Unescaped: as URLs, JSON, HTML
 * and UTF-16 write characters.  Folded: unescaped through nested escapes, in
 * lower case, without white space, and with the URL-safe digits of base64
 * turned into the standard ones.  The folded text is searched for the folded
 * secret, for its base64 at each of the three offsets, and for its hexadecimal
 * digits; these are too long to occur by chance.
 *
 * The time is linear in the text, and the memory is bounded: a text is read
 * some kilobytes at a time.
 */
#include "postgres.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "protocol/disguise.h"

#define MIN_FOLDED 12     /* characters; a shorter folded secret is not searched for */
#define PART 16384        /* characters that are read at a time */
#define MAX_BACKSLASHES 8 /* before an escape: JSON in JSON in JSON */
#define MAX_PERCENTS 2    /* "25" before the digits: a URL in a URL in a URL */

/* How escapes are read. */
typedef enum Reading
{
	READ_UNESCAPED, /* once */
	READ_FOLDED
} Reading;

/* ---------- characters ---------- */

/*
 * Returns the value of n hexadecimal digits; -1 if one of them is something
 * else.
 */
static int
hex_number(const char *digits, const char *end, int n)
{
	int value = 0;
	int i;

	if (end - digits < n)
		return -1;
	for (i = 0; i < n; i++)
	{
		if (bytes_hex_value(digits[i]) < 0)
			return -1;
		value = value * 16 + bytes_hex_value(digits[i]);
	}
	return value;
}

static int
named_entity(const char *text, const char *end, int *len)
{
	static const struct
	{
		const char *name;
		size_t len;
		char value;
	} names[] = {{"&amp;", 5, '&'},  {"&lt;", 4, '<'},     {"&gt;", 4, '>'},
				 {"&quot;", 6, '"'}, {"&apos;", 6, '\''},  {"&sol;", 5, '/'},
				 {"&plus;", 6, '+'}, {"&equals;", 8, '='}, {"&nbsp;", 6, ' '}};
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		/* a text may be nothing but "&" */
		if (text[1] == names[i].name[1] && end - text >= names[i].len &&
			memcmp(text, names[i].name, names[i].len) == 0)
		{
			*len = (int) names[i].len;
			return names[i].value;
		}
	}
	return -1;
}

/*
 * Returns the value of an HTML entity, "&#65;", "&#x41;" or "&lt;", and its
 * length in *len; -1 if text is none.
 */
static int
entity_value(const char *text, const char *end, int *len)
{
	bool is_hex = end - text > 3 && (text[2] == 'x' || text[2] == 'X');
	const char *p = text + (is_hex ? 3 : 2);
	int value = 0;
	int n;

	if (end - text < 4)
		return -1;
	if (text[1] != '#')
		return named_entity(text, end, len);
	for (n = 0; n < 6 && p < end && *p != ';'; n++, p++)
	{
		int digit = bytes_hex_value(*p);

		if (digit < 0 || (!is_hex && digit > 9))
			return -1;
		value = value * (is_hex ? 16 : 10) + digit;
	}
	if (n == 0 || p == end || *p != ';')
		return -1;
	*len = p + 1 - text;
	return value;
}

/*
 * Returns the character of an escape with that many backslashes, and its
 * length in *len; -1 if text is none.
 */
static int
backslash_value(const char *text, const char *end, int n_backslashes, int *len)
{
	const char *p = text + n_backslashes;
	int value = -1;

	*len = n_backslashes + 1;
	if (p == end)
		return -1;
	if (*p == 'u' && (value = hex_number(p + 1, end, 4)) >= 0)
		*len += 4;
	else if (*p == 'x' && (value = hex_number(p + 1, end, 2)) >= 0)
		*len += 2;
	else if (*p == 'n' || *p == 'r' || *p == 't')
		value = ' ';
	else if (*p != '\0' && strchr("\"\\/'", *p) != NULL)
		value = (unsigned char) *p;
	return value;
}

static int
percent_value(const char *text, const char *end, int max_percents, int *len)
{
	const char *p = text + 1;
	int n;

	for (n = 0; n < max_percents && end - p >= 4 && p[0] == '2' && p[1] == '5'; n++)
	{
		if (hex_number(p + 2, end, 2) < 0)
			break;
		p += 2;
	}
	*len = p + 2 - text;
	return hex_number(p, end, 2);
}

/*
 * Returns the byte that text begins with, as a URL, JSON or HTML escapes it,
 * or as it is; *len is how many bytes of text it takes.
 */
static int
read_character(const char *text, const char *end, Reading reading, int *len)
{
	int value = -1;

	if (*text == '%')
		value = percent_value(text, end, reading == READ_FOLDED ? MAX_PERCENTS : 0, len);
	else if (*text == '&')
		value = entity_value(text, end, len);
	else if (*text == '\\')
	{
		int n = 1;

		while (reading == READ_FOLDED && n < MAX_BACKSLASHES && end - text > n && text[n] == '\\')
			n++;
		value = backslash_value(text, end, n, len);
	}
	if (value >= 0 && value < 256)
		return value;
	*len = 1;
	return (unsigned char) *text;
}

static inline char
fold_character(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char) (c + ('a' - 'A'));
	return c == '-' ? '+' : c == '_' ? '/' : (char) c;
}

/*
 * True if a search skips a character: the zeros of UTF-16 and UTF-32 and, when
 * folding, white space, where lines are broken.
 */
static inline bool
is_left_out(unsigned char c, Reading reading)
{
	return c == '\0' || (reading == READ_FOLDED && (c == ' ' || (c >= '\t' && c <= '\r')));
}

/* ---------- forms of a secret ---------- */

static char *
fold_text(const char *text)
{
	const char *end = text + strlen(text);
	char *folded = palloc(end - text + 1);
	char *p = folded;

	while (text < end)
	{
		int len;
		int c = read_character(text, end, READ_FOLDED, &len);

		if (!is_left_out(c, READ_FOLDED))
			*p++ = fold_character(c);
		text += len;
	}
	*p = '\0';
	return folded;
}

/*
 * Returns the base64 of a secret with n_before bytes before it, without the
 * characters that depend on its neighbours.
 */
static char *
encode_within(const char *secret, int n_before)
{
	int skipped = n_before == 0 ? 0 : n_before + 1;
	int whole = (n_before + (int) strlen(secret)) * 8 / 6;
	char *padded = psprintf("%.*s%s", n_before, "??", secret);
	char *encoded = base64_encode(padded, strlen(padded));

	pfree(padded);
	encoded[whole] = '\0';
	return encoded + skipped;
}

static char *
encode_hex(const char *secret)
{
	size_t len = strlen(secret);
	char *hex = palloc(2 * len + 1);
	size_t i;

	for (i = 0; i < len; i++)
	{
		hex[2 * i] = "0123456789abcdef"[(unsigned char) secret[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[(unsigned char) secret[i] & 15];
	}
	hex[2 * len] = '\0';
	return hex;
}

/*
 * Appends the disguises of a secret, for which a folded text is searched, to a
 * list of char *.
 */
List *
disguise_list(List *disguises, const char *secret)
{
	char *folded;
	int n_before;

	if (strlen(secret) < MIN_SECRET)
		return disguises;
	folded = fold_text(secret);
	if (strlen(folded) >= MIN_FOLDED)
		disguises = lappend(disguises, folded);
	disguises = lappend(disguises, encode_hex(secret));
	for (n_before = 0; n_before < 3; n_before++)
	{
		char *encoded = encode_within(secret, n_before);
		char *p;

		for (p = encoded; *p != '\0'; p++)
			*p = fold_character(*p);
		if (strlen(encoded) >= MIN_SECRET)
			disguises = lappend(disguises, encoded);
	}
	return disguises;
}

/* ---------- overwriting ---------- */

/*
 * Overwrites each secret where text has it as it is.
 */
void
disguise_overwrite_plain(char *text, size_t len, const List *secrets)
{
	const ListCell *cell;

	foreach(cell, secrets)
	{
		const char *secret = lfirst(cell);
		size_t secret_len = strlen(secret);
		char *end = text + len;
		char *found = text;

		if (secret_len < MIN_SECRET)
			continue;
		while ((found = memmem(found, end - found, secret, secret_len)) != NULL)
		{
			memset(found, '*', secret_len);
			found += secret_len;
		}
	}
}

/* A part of a text as it is read. */
typedef struct Part
{
	Reading reading;
	char *text;
	char *end;
	char *characters;
	char **starts; /* where text has each character */
	size_t n;
	size_t size;
} Part;

/*
 * Reads from *p until the part is full or the text ends.
 */
static void
fill_part(Part *part, char **p)
{
	while (part->n < part->size && *p < part->end)
	{
		int len;
		int c = read_character(*p, part->end, part->reading, &len);

		if (!is_left_out(c, part->reading))
		{
			part->characters[part->n] = part->reading == READ_FOLDED ? fold_character(c) : (char) c;
			part->starts[part->n++] = *p;
		}
		*p += len;
	}
}

/* Keeps zeros, so that UTF-16 stays UTF-16. */
static void
overwrite_found(const Part *part, size_t first, size_t n)
{
	char *p = part->starts[first];
	char *last = part->starts[first + n - 1];
	int len;

	read_character(last, part->end, part->reading, &len);
	for (; p < last + len; p++)
	{
		if (*p != '\0')
			*p = '*';
	}
}

static void
search_part(const Part *part, const List *secrets)
{
	const ListCell *cell;

	foreach(cell, secrets)
	{
		const char *secret = lfirst(cell);
		size_t len = strlen(secret);
		char *end = part->characters + part->n;
		char *found = part->characters;

		if (len < MIN_SECRET)
			continue;
		while ((found = memmem(found, end - found, secret, len)) != NULL)
		{
			overwrite_found(part, found - part->characters, len);
			memset(found, '*', len);
			found += len;
		}
	}
}

static void
overwrite_read(char *text, size_t len, const List *secrets, Reading reading)
{
	Part part = {.reading = reading, .text = text, .end = text + len};
	size_t longest = 0;
	char *p = text;
	const ListCell *cell;

	foreach(cell, secrets)
		longest = Max(longest, strlen(lfirst(cell)));
	if (longest < MIN_SECRET)
		return;
	part.size = Min(len, Max(PART, 2 * longest));
	part.characters = palloc(part.size);
	part.starts = palloc(part.size * sizeof(char *));
	for (;;)
	{
		size_t kept;

		fill_part(&part, &p);
		search_part(&part, secrets);
		if (p >= part.end)
			break;
		/* a secret may begin at the end of this part */
		kept = Min(part.n, longest - 1);
		memmove(part.characters, part.characters + part.n - kept, kept);
		memmove(part.starts, part.starts + part.n - kept, kept * sizeof(char *));
		part.n = kept;
	}
	pfree(part.characters);
	pfree(part.starts);
}

static bool
may_be_escaped(const char *text, size_t len)
{
	return memchr(text, '%', len) != NULL || memchr(text, '\\', len) != NULL ||
		   memchr(text, '&', len) != NULL || memchr(text, '\0', len) != NULL;
}

/*
 * Overwrites each secret in whatever form; disguises: of all secrets.  The
 * length stays the same.
 */
void
disguise_overwrite(char *text, size_t len, const List *secrets, const List *disguises)
{
	if (len < MIN_SECRET)
		return;
	disguise_overwrite_plain(text, len, secrets);
	if (secrets != NIL && may_be_escaped(text, len))
		overwrite_read(text, len, secrets, READ_UNESCAPED);
	if (disguises != NIL)
		overwrite_read(text, len, disguises, READ_FOLDED);
}

/*
 * Returns how many bytes at the end of text may be the beginning of a
 * disguised secret; 0 if fewer than shortest.
 */
size_t
disguise_prefix(const char *text, size_t len, const List *disguises, size_t shortest)
{
	size_t longest = 0;
	const ListCell *cell;

	foreach(cell, disguises)
	{
		const char *disguise = lfirst(cell);
		size_t n = Min(strlen(disguise), len);

		for (; n >= shortest; n--)
		{
			size_t i = 0;

			while (i < n && fold_character(text[len - n + i]) == disguise[i])
				i++;
			if (i == n)
				break;
		}
		if (n >= shortest)
			longest = Max(longest, n);
	}
	return longest;
}

/*
 * grammar.c
 *		Checks and reads the options that describe a protocol.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "http/header.h"
#include "server/grammar.h"
#include "server/pointer.h"

#define MAX_HEADERS 100 /* in an option */

/*
 * Returns the next word of a list separated by spaces, and its length; NULL at
 * the end.  Moves *list behind the word.
 */
const char *
grammar_next_word(const char **list, int *len)
{
	const char *word = *list + strspn(*list, " ");

	*len = (int) strcspn(word, " ");
	*list = word + *len;
	return *len > 0 ? word : NULL;
}

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/*
 * NULL when a header of that name can be set; else a sentence that says why not.
 */
static const char *
check_header_name(const char *name)
{
	/*
	 * they frame a message, name the receiver, or are for the next hop only
	 * (RFC 9110, 7.6.1)
	 */
	static const char *const reserved[] = {
		"Connection", "Content-Encoding", "Content-Length",    "Expect",
		"Host",       "HTTP2-Settings",   "Idempotency-Key",   "Keep-Alive",
		"TE",         "Trailer",          "Transfer-Encoding", "Upgrade",
	};
	const char *found = pg_strncasecmp(name, "Proxy-", 6) == 0 ? name : NULL;
	int i;

	for (i = 0; i < lengthof(reserved); i++)
	{
		if (pg_strcasecmp(name, reserved[i]) == 0)
			found = reserved[i];
	}
	if (found == NULL)
		return NULL;
	return psprintf("The header %s is set by genjob itself. So are Connection, Content-Encoding, Content-Length, Expect, Host, HTTP2-Settings, Idempotency-Key, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding and Upgrade: they say where a call goes, and where it ends.",
					found);
}

/*
 * none, bearer, basic, sigv4, webhook, header:NAME[:PREFIX], query:NAME.
 */
const char *
grammar_check_auth(const char *value)
{
	static const char *const words[] = {"none", "bearer", "basic", "sigv4", "webhook"};
	int i;

	for (i = 0; i < lengthof(words); i++)
	{
		if (strcmp(value, words[i]) == 0)
			return NULL;
	}
	if (starts_with(value, "query:") && header_is_name(value + 6))
		return NULL;
	if (starts_with(value, "header:"))
	{
		const char *colon = strchr(value + 7, ':');
		char *name = pnstrdup(value + 7, colon ? colon - value - 7 : strlen(value + 7));

		if (header_is_name(name) && (colon == NULL || header_is_value(colon + 1)))
			return check_header_name(name);
	}
	return "Valid values are: none, bearer, basic (api_key is then \"user:password\"), header:NAME, header:NAME:PREFIX, query:NAME, sigv4 (access_key_id and secret_access_key), webhook (api_key is then \"whsec_...\").";
}

/*
 * A region or a service to sign for, of AWS or of a compatible server.
 */
const char *
grammar_check_word(const char *value)
{
	size_t len = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	if (len > 0 && len <= 64 && value[len] == '\0')
		return NULL;
	return "A name of letters, digits and dashes is expected, such as \"eu-central-1\".";
}

/*
 * Bucket names are host labels; the names of old buckets may have capitals and
 * underscores.
 */
const char *
grammar_check_bucket(const char *value)
{
	size_t len = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

	if (len >= 3 && len <= 63 && value[len] == '\0' && isalnum((unsigned char) value[0]))
		return NULL;
	return "The name of a bucket is expected: 3 to 63 letters, digits, dashes, dots and underscores.";
}

const char *
grammar_check_path(const char *value)
{
	const char *p;

	for (p = value; *p > ' ' && *p < 0x7f && *p != '#'; p++)
		;
	if (*p == '\0' && (*value == '\0' || *value == '/' || *value == '?'))
		return NULL;
	return "A path below the server's url is expected, such as \"/v1/images/generations\"; percent-encode all characters that are not ASCII.";
}

const char *
grammar_check_place(const char *value)
{
	return *value == '/' ? NULL : "A JSON Pointer is expected, such as \"/data/0/id\".";
}

/*
 * The place of the id in the answer; or "=" and the place in the request where
 * we put an id that we chose.
 */
const char *
grammar_check_remote_id(const char *value)
{
	if (*value == '/' || (*value == '=' && value[1] == '/'))
		return NULL;
	return "The place of the id in the answer is expected, such as \"/id\", or, where the request can choose it, its place there, such as \"=/prompt_id\".";
}

const char *
grammar_check_state(const char *value)
{
	const char *place = value;

	if (starts_with(value, "exists:"))
		place += strlen("exists:");
	else if (starts_with(value, "bool:"))
		place += strlen("bool:");
	if (strcmp(value, "http") == 0 || *place == '/')
		return NULL;
	return "A JSON Pointer is expected, such as \"/status\", or \"exists:/output\", \"bool:/done\", or \"http\" for the status of the poll.";
}

/*
 * A place in the answer to a poll, or "address#place".  We call the address
 * while the submission is in flight: it cannot use a URL or an id from an
 * answer.
 */
const char *
grammar_check_progress(const char *value)
{
	const char *hash = strchr(value, '#');
	Address address = {NULL};

	if (*value == '/')
		return NULL;
	if (hash != NULL && hash[1] == '/')
		(void) grammar_read_address(pnstrdup(value, hash - value), &address);
	if (address.method == NULL)
		return "A place in the answer to a poll is expected, such as \"/progress\" or \"/percent*0.01\", or an address and a place in its answer, such as \"GET /progress#/done\".";
	if (address.path == NULL || strstr(value, "{id}") != NULL)
		return "genjob calls this address while the submission is in flight, before any answer has given a URL or an id: a method and a path are expected, such as \"GET /progress#/done\", or, with reply 'poll', a place in the answer to a poll, such as \"/progress\".";
	return NULL;
}

const char *
grammar_check_header_value(const char *value)
{
	if (*value != '\0' && header_is_value(value))
		return NULL;
	return "The value of a header is expected, such as \"application/json\"; it must have no line breaks.";
}

const char *
grammar_check_places(const char *value)
{
	const char *word;
	int len;

	while ((word = grammar_next_word(&value, &len)) != NULL)
	{
		if (*word != '/')
			return "JSON Pointers are expected, separated by spaces, such as \"/data/*/b64_json /data/*/url\".";
	}
	return NULL;
}

/*
 * Places.  The first place that has words gives the reason; the places with "+"
 * that follow it add their words.
 */
const char *
grammar_check_reasons(const char *value)
{
	const char *word;
	int len;

	while ((word = grammar_next_word(&value, &len)) != NULL)
	{
		if (word[*word == '+'] != '/')
			return "JSON Pointers are expected, separated by spaces: the first place that has text counts, and places with \"+\" right behind it add theirs, as in \"/error/message +/error/details /error\".";
	}
	return NULL;
}

/*
 * Reads an address: "METHOD path" or "METHOD @place", either with a JSON body
 * behind it.  The address ends at a semicolon; returns what follows that, or
 * NULL at the end of text.  Sets address->method to NULL if text is not an
 * address.
 */
const char *
grammar_read_address(const char *text, Address *address)
{
	const char *end = strstr(text, "; ");
	char *copy = end ? pnstrdup(text, end - text) : pstrdup(text);
	char *target = strchr(copy, ' ');
	char *body;

	memset(address, 0, sizeof(*address));
	if (target == NULL || strspn(copy, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != target - copy)
		return NULL;
	*target++ = '\0';
	body = strchr(target, ' ');
	if (body != NULL)
		*body++ = '\0';
	if (*target == '@' && target[1] == '/')
		address->place = target + 1;
	else if (*target == '/' && grammar_check_path(target) == NULL)
		address->path = target;
	else
		return NULL;
	address->body = body;
	address->method = copy;
	return end ? end + 2 : NULL;
}

/*
 * Returns a list of addresses for one prediction, palloc'd.  An address with
 * the mark "?" needs an id that we chose: drops the mark if id_is_ours, else
 * the address.
 */
char *
grammar_fit_addresses(const char *text, bool id_is_ours)
{
	StringInfoData list;

	initStringInfo(&list);
	while (text != NULL && *text != '\0')
	{
		const char *end = strstr(text, "; ");
		int len = end ? (int) (end - text) : (int) strlen(text);
		bool is_optional = *text == '?';

		if (!is_optional || id_is_ours)
			appendStringInfo(&list, "%s%.*s", list.len > 0 ? "; " : "", len - is_optional,
							 text + is_optional);
		text = end ? end + 2 : NULL;
	}
	return list.data;
}

const char *
grammar_check_address(const char *value)
{
	Address address;

	value = grammar_fit_addresses(value, true);
	while (value != NULL)
	{
		value = grammar_read_address(value, &address);
		if (address.method == NULL)
			return "A method and a path are expected, or a method and the place of a URL in the answer: \"GET /jobs/{id}\", \"POST @/urls/cancel\".";
	}
	return NULL;
}

/*
 * Returns the address in "address#places", palloc'd, and sets *places; NULL
 * without a "#".
 */
char *
grammar_split_address(const char *text, const char **places)
{
	const char *hash = text ? strchr(text, '#') : NULL;

	if (hash == NULL)
		return NULL;
	*places = hash + 1;
	return pnstrdup(text, hash - text);
}

/*
 * As grammar_read_address(), for "address#places".  *places is NULL without a
 * "#".
 */
const char *
grammar_read_lookup(const char *text, Address *address, char **places)
{
	const char *end = strstr(text, "; ");
	char *copy = end ? pnstrdup(text, end - text) : pstrdup(text);
	char *hash = strchr(copy, '#');

	*places = hash ? hash + 1 : NULL;
	if (hash != NULL)
		*hash = '\0';
	(void) grammar_read_address(copy, address);
	return end ? end + 2 : NULL;
}

const char *
grammar_check_lookup(const char *value)
{
	while (value != NULL && *value != '\0')
	{
		Address address;
		char *places;

		value = grammar_read_lookup(value, &address, &places);
		if (address.path == NULL || (places != NULL && grammar_check_places(places) != NULL))
			return "A method and a path are expected, and behind \"#\" places in the answer: \"GET /jobs/{id}\", \"GET /queue#/running/*/id\".";
	}
	return NULL;
}

static const struct
{
	const char *name;
	RemoteState state;
} groups_of_states[] = {{"ok=", REMOTE_OK},
						{"fail=", REMOTE_FAILED},
						{"gone=", REMOTE_GONE},
						{"partly=", REMOTE_PARTLY},
						{"run=", REMOTE_RUNNING}};

/*
 * The index of the group that begins at text, or -1.
 */
static int
find_group(const char *text)
{
	int i;

	for (i = 0; i < lengthof(groups_of_states); i++)
	{
		if (starts_with(text, groups_of_states[i].name))
			return i;
	}
	return -1;
}

/*
 * True if value is in the list up to the next semicolon, in any case.  Sets
 * *has_star if it meets a "*" there.
 */
static bool
group_has(const char *values, const char *value, bool *has_star)
{
	size_t value_len = strlen(value);

	while (*values != '\0' && *values != ';')
	{
		size_t len = strcspn(values, ",;");

		if (len == value_len && pg_strncasecmp(values, value, len) == 0)
			return true;
		*has_star |= len == 1 && *values == '*';
		values += len + (values[len] == ',');
	}
	return false;
}

/*
 * Returns what value means in "ok=A,B;fail=C;gone=D;partly=E".  An unlisted value means running, unless a group has
 * "*".
 */
RemoteState
grammar_state_of(const char *states, const char *value)
{
	RemoteState other = REMOTE_RUNNING;

	while (*states != '\0')
	{
		int group = find_group(states);
		bool has_star = false;

		if (group >= 0)
		{
			if (group_has(states + strlen(groups_of_states[group].name), value, &has_star))
				return groups_of_states[group].state;
			if (has_star)
				other = groups_of_states[group].state;
		}
		states += strcspn(states, ";");
		states += *states == ';';
	}
	return other;
}

const char *
grammar_check_states(const char *value)
{
	while (*value != '\0')
	{
		size_t len = strcspn(value, ";");

		if (find_group(value) < 0)
			return "The values of state are expected, as in \"ok=succeeded;fail=failed,canceled;gone=expired;partly=incomplete\", with \"*\" for all others; without \"*\", any other value means \"still running\".";
		value += len + (value[len] == ';');
	}
	return NULL;
}

/*
 * "on", "off", or places.  A place with "?" before it need not be in the
 * answer.
 */
const char *
grammar_check_requirement(const char *value)
{
	const char *word;
	int len;

	if (strcmp(value, "on") == 0 || strcmp(value, "off") == 0)
		return NULL;
	if (value[strspn(value, " ")] == '\0')
		return "Valid values are: on, off, or places in the answer, at least one of which must have something, such as \"/choices/0/message/content\"; a place with \"?\" before it must have something only if it is there.";
	while ((word = grammar_next_word(&value, &len)) != NULL)
	{
		if (word[*word == '?'] != '/')
			return grammar_check_requirement("");
	}
	return NULL;
}

const char *
grammar_check_encoding(const char *value)
{
	if (strcmp(value, "auto") == 0 || strcmp(value, "url") == 0 || strcmp(value, "text") == 0 ||
		starts_with(value, "file:/"))
		return NULL;
	return "Valid values are: auto (base64, data: URLs and URLs), url (URLs and data: URLs), text, file:PATH (the path of a download, with {member} for members of the output).";
}

/*
 * pattern with every {name} replaced by value, palloc'd.
 */
char *
grammar_fill(const char *pattern, const char *name, const char *value)
{
	char *mark = psprintf("{%s}", name);
	size_t mark_len = strlen(mark);
	StringInfoData text;
	const char *found;

	initStringInfo(&text);
	while ((found = strstr(pattern, mark)) != NULL)
	{
		appendBinaryStringInfo(&text, pattern, (int) (found - pattern));
		appendStringInfoString(&text, value);
		pattern = found + mark_len;
	}
	appendStringInfoString(&text, pattern);
	return text.data;
}

/*
 * Returns text percent-encoded, palloc'd.  RFC 3986's unreserved characters
 * and those in also_plain stay plain.
 */
char *
grammar_percent_encode(const char *text, const char *also_plain)
{
	StringInfoData encoded;

	initStringInfo(&encoded);
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) != NULL || strchr(also_plain, c) != NULL)
			appendStringInfoChar(&encoded, *text);
		else
			appendStringInfo(&encoded, "%%%02X", c);
	}
	return encoded.data;
}

/*
 * NULL when text is a JSON object; else a sentence that says what is wrong.
 */
const char *
grammar_check_object(const char *text)
{
	const char *reason = NULL;
	cJSON *json = json_parse(pstrdup(text), strlen(text), &reason);

	if (json == NULL)
		return psprintf("A JSON object is expected; this is %s.", reason);
	return cJSON_IsObject(json) ? NULL
								: "A JSON object is expected, such as {\"name\": \"value\"}.";
}

/*
 * As grammar_check_object(), for an object of header names and values.
 */
const char *
grammar_check_headers(const char *text)
{
	const char *reason = grammar_check_object(text);
	const cJSON *header;
	int n = 0;

	if (reason != NULL)
		return reason;
	if (strstr(text, "\\u0000") != NULL)
		return "A header must have no NUL character.";
	for (header = json_parse_trusted(text)->child; header != NULL && reason == NULL;
		 header = header->next)
	{
		if (!header_is_name(header->string) || !cJSON_IsString(header) ||
			!header_is_value(header->valuestring))
			return "A JSON object of header names and string values is expected, such as {\"X-Team\": \"art\"}; a value must have no line breaks.";
		if (++n > MAX_HEADERS)
			return psprintf("At most %d headers are expected.", MAX_HEADERS);
		reason = check_header_name(header->string);
	}
	return reason;
}

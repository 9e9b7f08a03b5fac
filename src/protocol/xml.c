/*
 * xml.c
 *		Reads XML piece by piece: as much of XML as object stores answer with.
 *
 * Pure, and every byte is hostile.  Skips attributes, comments, processing
 * instructions, declarations, and the prefixes of names.  Resolves no entities
 * except XML's own and numbers.  The time is linear, and nothing recurses:
 * xml->depth tells the caller where it is.  Only values that the caller asks
 * for take memory: an answer may have a tag in every few bytes.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "base/json.h"
#include "protocol/xml.h"

#define MAX_ENTITY 10       /* bytes between "&" and ";" */
#define MAX_VALUE (1 << 20) /* bytes of a text that is kept */
#define SMALL_VALUE 32      /* bytes that a value takes at least: there may be many */

void
xml_begin(Xml *xml, const char *text, size_t len)
{
	memset(xml, 0, sizeof(*xml));
	xml->p = text;
	xml->end = len > 0 ? text + len : text;
}

static bool
begins_with(const Xml *xml, const char *prefix)
{
	size_t len = strlen(prefix);

	return xml->end - xml->p >= len && memcmp(xml->p, prefix, len) == 0;
}

/*
 * Moves behind the next occurrence of mark, or to the end.
 */
static void
pass_mark(Xml *xml, const char *mark)
{
	size_t len = strlen(mark);
	const char *found = memmem(xml->p, xml->end - xml->p, mark, len);

	xml->p = found ? found + len : xml->end;
}

/*
 * Returns the character of an entity, whose name has no "&" and ";" here; 0 if
 * it is not known.
 */
static pg_wchar
entity_of(const char *name)
{
	static const struct
	{
		const char *name;
		char c;
	} known[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
	long code;
	int i;

	for (i = 0; i < lengthof(known); i++)
	{
		if (strcmp(name, known[i].name) == 0)
			return known[i].c;
	}
	if (name[0] != '#')
		return 0;
	code = name[1] == 'x' ? strtol(name + 2, NULL, 16) : strtol(name + 1, NULL, 10);
	return code > 0 && code <= 0x10FFFF && (code < 0xD800 || code >= 0xE000) ? (pg_wchar) code : 0;
}

/*
 * Appends what an entity stands for, or only its "&" if it is not known;
 * returns how many bytes of text that took.
 */
static size_t
append_entity(StringInfo to, const char *text, const char *end)
{
	const char *stop = memchr(text, ';', Min(end - text, MAX_ENTITY + 2));
	char name[MAX_ENTITY + 1] = "";
	unsigned char utf8[4];
	pg_wchar code;

	if (stop != NULL)
		memcpy(name, text + 1, stop - text - 1);
	code = entity_of(name);
	if (code == 0)
	{
		appendStringInfoChar(to, '&');
		return 1;
	}
	unicode_to_utf8(code, utf8);
	appendBinaryStringInfo(to, (char *) utf8, pg_utf_mblen(utf8));
	return stop - text + 1;
}

/*
 * Appends the text that was read last, as far as MAX_VALUE allows.
 */
static void
append_text(StringInfo to, const Xml *xml)
{
	const char *end = xml->text + xml->len;
	const char *p = xml->text;

	if (xml->is_cdata)
	{
		appendBinaryStringInfo(to, p, Min(xml->len, MAX_VALUE - to->len));
		return;
	}
	while (p < end && to->len < MAX_VALUE)
	{
		if (*p == '&')
			p += append_entity(to, p, end);
		else
			appendStringInfoChar(to, *p++);
	}
}

/*
 * Reads text up to the next tag.
 */
static XmlPiece
read_text(Xml *xml)
{
	const char *tag = memchr(xml->p, '<', xml->end - xml->p);

	xml->text = xml->p;
	xml->p = tag ? tag : xml->end;
	xml->len = xml->p - xml->text;
	xml->is_cdata = false;
	return XML_TEXT;
}

static XmlPiece
read_cdata(Xml *xml)
{
	xml->text = xml->p + strlen("<![CDATA[");
	pass_mark(xml, "]]>");
	xml->len = xml->p - xml->text;
	if (xml->len >= 3 && memcmp(xml->p - 3, "]]>", 3) == 0)
		xml->len -= 3;
	xml->is_cdata = true;
	return XML_TEXT;
}

/*
 * Returns the end of a tag, behind ">".  Quoted values of attributes may have
 * a ">" in them.
 */
static const char *
end_of_tag(const Xml *xml)
{
	char quote = '\0';
	const char *p;

	for (p = xml->p; p < xml->end; p++)
	{
		if (quote != '\0')
			quote = *p == quote ? '\0' : quote;
		else if (*p == '"' || *p == '\'')
			quote = *p;
		else if (*p == '>')
			return p + 1;
	}
	return xml->end;
}

static XmlPiece
read_tag(Xml *xml)
{
	bool closes = begins_with(xml, "</");
	const char *name = xml->p + (closes ? 2 : 1);
	const char *end = end_of_tag(xml);
	const char *p;

	for (p = name; p < end && strchr(" \t\r\n/>", *p) == NULL; p++)
	{
		if (*p == ':')
			name = p + 1;
	}
	snprintf(xml->name, sizeof(xml->name), "%.*s", (int) Min(p - name, XML_MAX_NAME), name);
	xml->p = end;
	if (closes)
	{
		xml->depth = Max(xml->depth - 1, 0);
		return XML_CLOSE;
	}
	xml->depth++;
	xml->must_close = end - name >= 2 && end[-1] == '>' && end[-2] == '/';
	return XML_OPEN;
}

/*
 * Returns the next piece, whose fields are in *xml.
 */
XmlPiece
xml_next(Xml *xml)
{
	if (xml->must_close)
	{
		xml->must_close = false;
		xml->depth = Max(xml->depth - 1, 0);
		return XML_CLOSE;
	}
	while (xml->p < xml->end)
	{
		if (*xml->p != '<')
			return read_text(xml);
		if (begins_with(xml, "<!--"))
			pass_mark(xml, "-->");
		else if (begins_with(xml, "<?"))
			pass_mark(xml, "?>");
		else if (begins_with(xml, "<![CDATA["))
			return read_cdata(xml);
		else if (begins_with(xml, "<!"))
			pass_mark(xml, ">");
		else
			return read_tag(xml);
	}
	return XML_END;
}

/*
 * Passes the element whose start tag was read last.  Appends the element's own
 * text to value, unless that is NULL.
 */
static void
read_element(Xml *xml, StringInfo value)
{
	int inside = xml->depth;
	XmlPiece piece;

	while ((piece = xml_next(xml)) != XML_END)
	{
		if (piece == XML_CLOSE && xml->depth < inside)
			break;
		if (piece == XML_TEXT && xml->depth == inside && value != NULL)
			append_text(value, xml);
	}
}

/*
 * Returns the text of the element whose start tag was read last, up to its end
 * tag, as valid UTF-8 without NUL, palloc'd; "" if it has none.
 */
char *
xml_value(Xml *xml)
{
	StringInfoData value = {palloc(SMALL_VALUE), 0, SMALL_VALUE, 0};

	value.data[0] = '\0';
	read_element(xml, &value);
	json_sanitize_text(value.data, value.len);
	return value.data;
}

void
xml_skip(Xml *xml)
{
	read_element(xml, NULL);
}

/*
 * Returns the text of the first element of that name, palloc'd; NULL if there
 * is none.
 */
char *
xml_find(const char *text, size_t len, const char *name)
{
	Xml xml;
	XmlPiece piece;

	xml_begin(&xml, text, len);
	while ((piece = xml_next(&xml)) != XML_END)
	{
		if (piece == XML_OPEN && strcmp(xml.name, name) == 0)
			return xml_value(&xml);
	}
	return NULL;
}

/*
 * True if a document's root element has that name, and its end tag is there.
 */
bool
xml_is_whole(const char *text, size_t len, const char *root)
{
	bool is_whole = false;
	bool has_begun = false;
	XmlPiece piece;
	Xml xml;

	xml_begin(&xml, text, len);
	while (!is_whole && (piece = xml_next(&xml)) != XML_END)
	{
		if (xml.depth == (piece == XML_OPEN ? 1 : 0) && piece != XML_TEXT &&
			strcmp(xml.name, root) != 0)
			return false;
		has_begun |= piece == XML_OPEN;
		is_whole = has_begun && piece == XML_CLOSE && xml.depth == 0;
	}
	return is_whole;
}

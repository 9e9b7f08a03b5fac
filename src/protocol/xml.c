/*
 * xml.c
 *		Reading XML piece by piece: as much of it as object stores answer with.
 *
 * Pure, and every byte is hostile.  Attributes, comments, processing instructions and declarations are
 * passed over, a prefix of a name too; no entity but XML's own and those of numbers is resolved.  The time
 * is linear, and nothing is nested here: whoever reads keeps account of where he is by xml->depth.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "base/json.h"
#include "protocol/xml.h"

#define MAX_NAME 100        /* bytes of a tag's name; a longer one is cut */
#define MAX_ENTITY 10       /* bytes between "&" and ";" */
#define MAX_VALUE (1 << 20) /* bytes of a text that is kept */

void
xml_begin(Xml *xml, const char *text, size_t len)
{
	memset(xml, 0, sizeof(*xml));
	xml->p = text;
	xml->end = text + len;
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
pass(Xml *xml, const char *mark)
{
	size_t len = strlen(mark);
	const char *found = memmem(xml->p, xml->end - xml->p, mark, len);

	xml->p = found ? found + len : xml->end;
}

/*
 * Appends what an entity stands for, or the entity itself; returns its length.
 */
static size_t
append_entity(StringInfo to, const char *text, const char *end)
{
	static const struct
	{
		const char *name;
		char c;
	} known[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
	const char *stop = memchr(text, ';', Min(end - text, MAX_ENTITY + 2));
	char *name = stop ? pnstrdup(text + 1, stop - text - 1) : NULL;
	unsigned char utf8[4];
	long code = -1;
	int i;

	for (i = 0; name != NULL && i < lengthof(known); i++)
	{
		if (strcmp(name, known[i].name) == 0)
			code = known[i].c;
	}
	if (name != NULL && name[0] == '#')
		code = name[1] == 'x' ? strtol(name + 2, NULL, 16) : strtol(name + 1, NULL, 10);
	if (code <= 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
	{
		appendStringInfoChar(to, '&');
		return 1;
	}
	unicode_to_utf8((pg_wchar) code, utf8);
	appendBinaryStringInfo(to, (char *) utf8, pg_utf_mblen(utf8));
	return stop - text + 1;
}

/*
 * Text up to the next tag, as valid UTF-8 without NUL.
 */
static XmlPiece
read_text(Xml *xml)
{
	StringInfoData text;
	const char *tag = memchr(xml->p, '<', xml->end - xml->p);
	const char *end = tag ? tag : xml->end;

	initStringInfo(&text);
	while (xml->p < end && text.len < MAX_VALUE)
	{
		if (*xml->p == '&')
			xml->p += append_entity(&text, xml->p, end);
		else
			appendStringInfoChar(&text, *xml->p++);
	}
	xml->p = end;
	json_sanitize_text(text.data, text.len);
	xml->text = text.data;
	return XML_TEXT;
}

static XmlPiece
read_cdata(Xml *xml)
{
	const char *start = xml->p + strlen("<![CDATA[");
	size_t len;

	pass(xml, "]]>");
	len = xml->p - start;
	if (len >= 3 && memcmp(xml->p - 3, "]]>", 3) == 0)
		len -= 3;
	len = Min(len, MAX_VALUE);
	xml->text = memcpy(palloc(len + 1), start, len);
	xml->text[len] = '\0';
	json_sanitize_text(xml->text, len);
	return XML_TEXT;
}

/*
 * The end of a tag, behind ">"; quoted values of attributes may have one in them.
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
	xml->text = pnstrdup(name, Min(p - name, MAX_NAME));
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
 * The next piece.
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
			pass(xml, "-->");
		else if (begins_with(xml, "<?"))
			pass(xml, "?>");
		else if (begins_with(xml, "<![CDATA["))
			return read_cdata(xml);
		else if (begins_with(xml, "<!"))
			pass(xml, ">");
		else
			return read_tag(xml);
	}
	return XML_END;
}

/*
 * The text of the element whose start tag was read last, up to its end tag, palloc'd; empty where it has none.
 */
char *
xml_value(Xml *xml)
{
	int inside = xml->depth;
	StringInfoData value;
	XmlPiece piece;

	initStringInfo(&value);
	while ((piece = xml_next(xml)) != XML_END)
	{
		if (piece == XML_CLOSE && xml->depth < inside)
			break;
		if (piece == XML_TEXT && xml->depth == inside && value.len < MAX_VALUE)
			appendStringInfoString(&value, xml->text);
	}
	return value.data;
}

/*
 * The text of the first element of that name, palloc'd; NULL where there is none.
 */
char *
xml_find(const char *text, size_t len, const char *name)
{
	Xml xml;
	XmlPiece piece;

	xml_begin(&xml, text, len);
	while ((piece = xml_next(&xml)) != XML_END)
	{
		if (piece == XML_OPEN && strcmp(xml.text, name) == 0)
			return xml_value(&xml);
	}
	return NULL;
}

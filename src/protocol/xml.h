/*
 * xml.h
 *		Reads XML piece by piece.
 */
#ifndef GENJOB_XML_H
#define GENJOB_XML_H

typedef enum XmlPiece
{
	XML_END,   /* the end of the text */
	XML_OPEN,  /* a start tag: its name */
	XML_CLOSE, /* an end tag, or the end of an element without content: its name */
	XML_TEXT   /* what is between tags */
} XmlPiece;

#define XML_MAX_NAME 100 /* bytes of a tag's name; a longer one is cut */

typedef struct Xml
{
	const char *p;
	const char *end;
	int depth; /* elements that are open */

	/* The piece that was read last */
	char name[XML_MAX_NAME + 1]; /* of a tag */
	const char *text;            /* as it stands there, entities not resolved */
	size_t len;
	bool is_cdata; /* nothing in it is an entity */

	bool must_close; /* the element of the last start tag has no content */
} Xml;

extern void xml_begin(Xml *xml, const char *text, size_t len);
extern XmlPiece xml_next(Xml *xml);
extern char *xml_value(Xml *xml);
extern void xml_skip(Xml *xml);
extern char *xml_find(const char *text, size_t len, const char *name);
extern bool xml_is_whole(const char *text, size_t len, const char *root);

#endif /* GENJOB_XML_H */

/*
 * xml.c
 *		What object stores answer with, piece by piece.
 *
 *		NAME of an element
 *		XML
 */
#include "fuzz.h"

#include "protocol/xml.h"

FUZZ_HARNESS(xml)
{
	char *name = input_take_line(input);
	XmlPiece piece;
	char *value;
	Xml xml;

	xml_begin(&xml, input->data, input->len);
	while ((piece = xml_next(&xml)) != XML_END)
	{
		must_be(xml.depth >= 0, "no more elements are closed than were opened", NULL);
		if (piece == XML_TEXT)
			must_be(xml.text >= input->data && xml.text + xml.len <= input->data + input->len,
					"a text is of the input", NULL);
	}
	value = xml_find(input->data, input->len, name);
	if (value != NULL)
		must_be_utf8(value, "a value");
}

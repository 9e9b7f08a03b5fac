/*
 * xml.c
 *		What object stores answer with, and what is no XML at all.
 */
#include "unit.h"

#include "protocol/xml.h"

typedef struct XmlCase
{
	const char *text;
	const char *name;
	const char *value; /* NULL: there is none */
} XmlCase;

static const XmlCase cases[] = {
	{"<a>b</a>", "a", "b"},
	{"<?xml version='1.0'?>\n<E><Code>X</Code></E>", "Code", "X"},
	{"<ns:E xmlns:ns=\"http://a/b>c\"><ns:Code a='1'>X</ns:Code></ns:E>", "Code", "X"},
	{"<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x42;&#252;</a>", "a", "<>&\"'AB\303\274"},
	{"<a>&nothing; &#0; &#xD800; &#x110000; &</a>", "a", "&nothing; &#0; &#xD800; &#x110000; &"},
	{"<a>one<!-- <a> -->two<![CDATA[<three>]]></a>", "a", "onetwo<three>"},
	{"<a>x<b>y</b>z</a>", "a", "xz"},
	{"<a/>", "a", ""},
	{"<x><a/>b</x>", "a", ""},
	{"<a>cut", "a", "cut"},
	{"<a", "a", ""},
	{"<a>\xff\xfe</a>", "a", "??"},
	{"</a></a><a>b", "a", "b"},
	{"<!DOCTYPE x [<!ENTITY e 'v'>]><a>&e;</a>", "a", "&e;"},
	{"", "a", NULL},
	{"no tags at all", "a", NULL},
	{"<b>c</b>", "a", NULL},
	{"<!-- <a>b</a> -->", "a", NULL},
};

static void
test_whole(const char *text, bool expected)
{
	unit_ok(xml_is_whole(text, strlen(text), "a") == expected, "%s is %s", text,
			expected ? "whole" : "not whole");
}

void
unit_run(void)
{
	int i;

	test_whole("  \n<?xml version='1.0'?><n:a x='>'><b/><a>c</a></n:a>\n", true);
	test_whole("<a/>", true);
	test_whole("<a><b></b>", false);
	test_whole("<a><a></a>", false);
	test_whole("<a></b>", false);
	test_whole("<b><a></a></b>", false);
	test_whole("</a>", false);
	test_whole("{}", false);
	test_whole("", false);

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(xml_find(cases[i].text, strlen(cases[i].text), cases[i].name), cases[i].value,
					 "<%s> in %s", cases[i].name, cases[i].text);
}

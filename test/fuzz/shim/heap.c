/*
 * heap.c
 *		The pairing heap as the server has it: the largest on top.
 *
 * A node's children are a list, whose first has the node, and each other its neighbour, before it.
 */
#include "postgres.h"

#include "lib/pairingheap.h"

pairingheap *
pairingheap_allocate(pairingheap_comparator compare, void *arg)
{
	pairingheap *heap = palloc0(sizeof(pairingheap));

	heap->ph_compare = compare;
	heap->ph_arg = arg;
	return heap;
}

void
pairingheap_free(pairingheap *heap)
{
	pfree(heap);
}

/*
 * Makes the smaller of two roots the first child of the other, which is returned; either may be NULL.
 */
static pairingheap_node *
merge(pairingheap *heap, pairingheap_node *a, pairingheap_node *b)
{
	if (a == NULL || b == NULL)
		return a ? a : b;
	if (heap->ph_compare(a, b, heap->ph_arg) < 0)
	{
		pairingheap_node *smaller = a;

		a = b;
		b = smaller;
	}
	if (a->first_child != NULL)
		a->first_child->prev_or_parent = b;
	b->prev_or_parent = a;
	b->next_sibling = a->first_child;
	a->first_child = b;
	return a;
}

/*
 * Merges a list of siblings, two by two and then the pairs; returns the root, which has no neighbours.
 */
static pairingheap_node *
merge_siblings(pairingheap *heap, pairingheap_node *node)
{
	pairingheap_node *pairs = NULL;
	pairingheap_node *root = NULL;

	while (node != NULL)
	{
		pairingheap_node *second = node->next_sibling;
		pairingheap_node *rest = second ? second->next_sibling : NULL;

		node = merge(heap, node, second);
		node->next_sibling = pairs;
		pairs = node;
		node = rest;
	}
	while (pairs != NULL)
	{
		pairingheap_node *next = pairs->next_sibling;

		root = merge(heap, root, pairs);
		pairs = next;
	}
	if (root != NULL)
		root->next_sibling = root->prev_or_parent = NULL;
	return root;
}

void
pairingheap_add(pairingheap *heap, pairingheap_node *node)
{
	node->first_child = node->next_sibling = node->prev_or_parent = NULL;
	heap->ph_root = merge(heap, heap->ph_root, node);
}

pairingheap_node *
pairingheap_first(pairingheap *heap)
{
	Assert(heap->ph_root != NULL);
	return heap->ph_root;
}

pairingheap_node *
pairingheap_remove_first(pairingheap *heap)
{
	pairingheap_node *first = pairingheap_first(heap);

	heap->ph_root = merge_siblings(heap, first->first_child);
	return first;
}

void
pairingheap_remove(pairingheap *heap, pairingheap_node *node)
{
	pairingheap_node *before = node->prev_or_parent;

	if (node == heap->ph_root)
	{
		(void) pairingheap_remove_first(heap);
		return;
	}
	if (before->first_child == node)
		before->first_child = node->next_sibling;
	else
		before->next_sibling = node->next_sibling;
	if (node->next_sibling != NULL)
		node->next_sibling->prev_or_parent = before;
	heap->ph_root = merge(heap, heap->ph_root, merge_siblings(heap, node->first_child));
}

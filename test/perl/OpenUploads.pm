package OpenUploads;

# The uploads in parts that the store of test/aws/objectstore.py has open, by Swift's own interface: the container
# pictures+segments has an object KEY/ID for each, and KEY/ID/NUMBER for each of its parts.

use strict;
use warnings;

use HTTP::Tiny;

use GenJobTest ();

my $http = HTTP::Tiny->new(timeout => 60);

sub _names
{
	my ($store) = @_;
	my $login = $http->get($store->url('/auth/v1.0'), { headers => { 'X-Auth-User' => 'test:tester', 'X-Auth-Key' => 'testing' } });
	die "no token: $login->{status} $login->{content}\n" unless $login->{success};
	my $list = $http->get("$login->{headers}{'x-storage-url'}/pictures+segments?limit=10000", { headers => { 'X-Auth-Token' => $login->{headers}{'x-auth-token'} } });
	return $list->{status} == 200 ? split /\n/, $list->{content} : ();
}

# KEY/ID of each that is open.
sub list
{
	my ($store) = @_;
	return grep { !m{/\d+$} } _names($store);
}

# KEY/ID/NUMBER of each part that the store has, of uploads that are open and of objects that were made.
sub parts
{
	my ($store) = @_;
	return grep { m{/\d+$} } _names($store);
}

# True once none is open; false if one still is after the time-out of poll_query_until.
sub wait_none
{
	my ($store) = @_;
	return GenJobTest::poll_until(sub { !list($store) });
}

1;

"""etcd as the store: the same promises over a cluster of etcd, which other API servers may share.

client:   calls and watches, at whichever member answers.
keys:     where what is kept.
records:  how it is kept: values, and the record of every group of commits.
versions: another resourceVersion in a packed object.
outcomes: what a commit can come to that one of the other stores cannot.
groups:   groups of commits, as transactions of etcd.
listing:  all there is.
mirror:   what is known of etcd beside the history.
newest:   reads that see what anybody has written.
store:    `EtcdStore`.
"""

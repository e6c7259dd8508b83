"""The log of the distributed profile: one topic of an Apache Kafka cluster.

A record is one message: the payload is its value, byte for byte, and the envelope's headers are its
header `nilometer`. Its key is the envelope's `sequence`: two records of one event, which a client
has sent again, are in one partition and met by one consumer at a time, which finds the second
stored; two consumers that looked at the same moment would both store it. Those without a sequence
have no key, and the producer fills one partition's batch with them after the other.

Everything that the promises rest on is asked for explicitly, whatever the cluster's defaults are:
`acks=all` from at least `min.insync.replicas` replicas, an idempotent producer, no unclean election
of a leader, no deletion before the retention, and a time stamp of the broker on every record.
"""

from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection
from nilometer.log.kafka.consumer import KafkaConsumer, Membership
from nilometer.log.kafka.log import KafkaLog
from nilometer.log.kafka.producer import Sending
from nilometer.log.kafka.topic import TopicFacts, TopicPlan, describe_topic, objections

__all__ = [
    "Cluster",
    "KafkaConnection",
    "KafkaConsumer",
    "KafkaLog",
    "Membership",
    "Sending",
    "TopicFacts",
    "TopicPlan",
    "describe_topic",
    "objections",
]

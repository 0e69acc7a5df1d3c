//! Addresses that no allowed name may lead to.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address ranges that are refused wherever a name is resolved: private networks, loopback, link-local with
/// cloud metadata, multicast, and the IPv6 forms that carry IPv4 addresses inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGuard {
    refused: Vec<IpNet>,
    lifted: Vec<IpNet>,
}

impl AddressGuard {
    /// RFC 6890 special-purpose IPv4 ranges, multicast and the reserved block.
    const V4: [([u8; 4], u8); 16] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        // Azure's metadata and control address, which looks public.
        ([168, 63, 129, 16], 32),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];

    /// IPv6: embedded IPv4 (`::/96`, mapped, translated, NAT64, 6to4, Teredo), unique local, link and site local, discard-only,
    /// benchmarking, ORCHID, documentation, multicast.
    const V6: [([u16; 8], u8); 17] = [
        ([0, 0, 0, 0, 0, 0, 0, 0], 96),
        ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
        ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
        ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
        ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
        ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
        ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
        ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
        ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
        ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
        ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
        ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    ];

    /// Addresses that even a private target has to name to lead to: cloud metadata, link-local, multicast, and the
    /// reserved ends.
    #[must_use]
    pub fn never_meant() -> Vec<IpNet> {
        let v4 = [
            ([0, 0, 0, 0], 8),
            // Of Alibaba, Oracle and Azure.
            ([100, 100, 100, 200], 32),
            ([192, 0, 0, 192], 32),
            ([168, 63, 129, 16], 32),
            ([169, 254, 0, 0], 16),
            ([224, 0, 0, 0], 3),
        ];
        let v6 = [
            // IPv4 addresses inside: mapped, translated, NAT64, 6to4, Teredo.
            ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
            ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
            ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
            ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
            ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
            ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
            // Of AWS, Oracle, Scaleway and Google.
            ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
            ([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
            ([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
            ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
            ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
            ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
        ];
        let v4 = v4.into_iter().filter_map(|(octets, bits)| Ipv4Net::new(octets.into(), bits).ok());
        let v6 = v6.into_iter().filter_map(|(parts, bits)| Ipv6Net::new(parts.into(), bits).ok());
        v4.map(IpNet::from).chain(v6.map(IpNet::from)).collect()
    }

    /// Whether an address is in a refused range.
    #[must_use]
    pub fn refuses(&self, address: IpAddr) -> bool {
        self.refused.iter().any(|range| range.contains(&address))
    }

    /// The whole table, less the lifted ranges. A lifted range that lies inside a refused one opens just itself: the
    /// rest of the refused range is split around it.
    #[must_use]
    pub fn lifting(lifted: &[IpNet]) -> Self {
        let table = Self::V4
            .iter()
            .filter_map(|(octets, length)| Ipv4Net::new(Ipv4Addr::from(*octets), *length).ok())
            .map(IpNet::from)
            .chain(
                Self::V6
                    .iter()
                    .filter_map(|(parts, length)| Ipv6Net::new(Ipv6Addr::from(*parts), *length).ok())
                    .map(IpNet::from),
            );
        let lifted: Vec<_> = lifted.iter().map(IpNet::trunc).collect();
        let refused = table.flat_map(|range| without(range, &lifted)).collect();
        Self { refused, lifted }
    }

    /// The refused ranges.
    #[must_use]
    pub fn refused(&self) -> &[IpNet] {
        &self.refused
    }

    /// The ranges that an operator opened.
    #[must_use]
    pub fn lifted(&self) -> &[IpNet] {
        &self.lifted
    }
}

/// Nothing is lifted.
impl Default for AddressGuard {
    fn default() -> Self {
        Self::lifting(&[])
    }
}

/// `range` less everything in `lifted`, as the fewest prefixes.
fn without(range: IpNet, lifted: &[IpNet]) -> Vec<IpNet> {
    if lifted.iter().any(|open| open.contains(&range)) {
        return Vec::new();
    }
    if !lifted.iter().any(|open| range.contains(open)) {
        return vec![range];
    }
    range
        .subnets(range.prefix_len() + 1)
        .map(|halves| halves.flat_map(|half| without(half, lifted)).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    fn refuses(guard: &AddressGuard, address: &str) -> bool {
        guard.refuses(address.parse().unwrap())
    }

    #[test]
    fn refuses_every_way_into_private_networks() {
        let guard = AddressGuard::default();
        assert_eq!(guard.refused().len(), AddressGuard::V4.len() + AddressGuard::V6.len());
        for address in [
            "0.0.0.0",
            "10.0.0.5",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "::ffff:0:7f00:1",
            "3fff::1",
            "172.31.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2002:7f00:1::",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "100::1",
        ] {
            assert!(refuses(&guard, address), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00::1"] {
            assert!(!refuses(&guard, address), "{address}");
        }
    }

    #[test]
    fn lifting_opens_just_the_range() {
        let guard = AddressGuard::lifting(&["10.0.5.0/24".parse().unwrap(), "127.0.0.1/32".parse().unwrap()]);
        for address in ["10.0.5.0", "10.0.5.255", "127.0.0.1"] {
            assert!(!refuses(&guard, address), "{address}");
        }
        for address in ["10.0.4.255", "10.0.6.0", "10.255.0.1", "127.0.0.2", "192.168.0.1"] {
            assert!(refuses(&guard, address), "{address}");
        }
        let all = AddressGuard::lifting(&["0.0.0.0/0".parse().unwrap()]);
        assert!(!refuses(&all, "10.0.0.1") && refuses(&all, "::1"));
    }
}

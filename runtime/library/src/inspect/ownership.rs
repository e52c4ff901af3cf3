//! Which modules use which objects of an archive.

use archive_format::Tables;

use super::objects::Objects;

pub struct Ownership {
    /// For each object: how many modules can reach it.
    pub users: Vec<u32>,
    /// For each module, in the order of the catalog: the bytes of the objects that no other module can reach.
    pub own_bytes: Vec<u64>,
}

impl Ownership {
    pub fn find(objects: &Objects, tables: &Tables) -> Self {
        const NOBODY: usize = usize::MAX;
        let mut users = vec![0; objects.places.len()];
        let mut last_user = vec![NOBODY; objects.places.len()];
        let mut count = 0;
        for module in tables.modules() {
            let code = module.code.and_then(|code| objects.index(code));
            let mut pending = Vec::from_iter(code);
            while let Some(index) = pending.pop() {
                if last_user[index] != count {
                    last_user[index] = count;
                    users[index] += 1;
                    pending.extend(objects.references(index));
                }
            }
            count += 1;
        }
        let mut own_bytes = vec![0; count];
        for (index, place) in objects.places.iter().enumerate() {
            if users[index] == 1 {
                own_bytes[last_user[index]] += place.bytes;
            }
        }
        Self { users, own_bytes }
    }

    /// The bytes of the objects that several modules can reach.
    pub fn shared_bytes(&self, objects: &Objects) -> u64 {
        let places = objects.places.iter().zip(&self.users);
        let shared = places.filter(|(_, users)| **users > 1);
        shared.map(|(place, _)| place.bytes).sum()
    }
}

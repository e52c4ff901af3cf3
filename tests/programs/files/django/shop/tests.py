from django.test import TestCase

from shop.models import Item


class ItemTest(TestCase):
    def test_items(self):
        Item.objects.create(name="one", price="1.50")
        self.assertEqual(Item.objects.count(), 1)

    def test_page(self):
        self.assertEqual(self.client.get("/").content, b"hello")

    def test_that_fails(self):
        self.assertEqual(self.client.get("/admin/").status_code, 200)
